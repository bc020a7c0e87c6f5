//! Owners, modes and file systems of a sandbox.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn owner_of(path: &Path) -> (u32, u32) {
    let meta = path.symlink_metadata().unwrap();
    (meta.uid(), meta.gid())
}

pub(crate) fn mode_of(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

/// A file system over a folder, until dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A small disk of its own.
    pub(crate) fn small(folder: &Path, size: &str) -> Mounted {
        Mounted::tmpfs(folder, &format!("size={size},mode=2770"))
    }

    /// A disk in memory with these limits (tmpfs(5)).
    pub(crate) fn tmpfs(folder: &Path, options: &str) -> Mounted {
        mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), Some(options)).unwrap();
        Mounted(folder.to_owned())
    }

    /// The same, with what lies in the folder.
    pub(crate) fn copied(folder: &Path, by: &Path, options: &str) -> Mounted {
        let copy = |from: &Path, to: &Path| {
            let mut command = Command::new("/bin/cp");
            let ran = command.arg("--archive").arg("--no-target-directory").arg(from).arg(to).status();
            assert!(ran.unwrap().success());
        };
        copy(folder, by);
        let mounted = Mounted::tmpfs(folder, options);
        copy(by, folder);
        mounted
    }

    /// Other limits from here on.
    pub(crate) fn remount(&self, options: &str) {
        let none = None::<&str>;
        mount(none, &self.0, none, MsFlags::MS_REMOUNT, Some(options)).unwrap();
    }

    /// The folder as it is, to be read only.
    pub(crate) fn read_only(folder: &Path) -> Mounted {
        let none = None::<&str>;
        mount(Some(folder), folder, none, MsFlags::MS_BIND, none).unwrap();
        let mounted = Mounted(folder.to_owned());
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, folder, none, flags, none).unwrap();
        mounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
