//! Postern's folders: each with its owner, mode and access list. README, "Files", says who writes what.
//!
//! Root makes and changes only what lies in a folder of root's own: in the state's folder every mail user can
//! exchange one name for another between two looks. What lies in there is made by user `postern`.

use crate::acl;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::shared_folder::{out_of_the_way, own_folder};
use crate::store::settings::Host;
use nix::libc;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// Makes root's own folders, where settings and policy lie. For root.
pub fn make_own(paths: &Paths) -> Result<()> {
    for path in [paths.etc(), paths.lib()] {
        folder(&path, 0o755, (0, 0))?;
    }
    Ok(())
}

/// Makes the folders that root gives away, and puts right what it finds wrong. For root.
pub fn make_given(paths: &Paths, host: &Host) -> Result<()> {
    folder(&paths.data(), 0o755, (host.postern_uid, host.postern_gid))?;
    shared(&paths.state_dir(), host)?;
    make_run(paths, host)
}

/// `/run/postern`, which is gone after each start of the machine. For root.
pub fn make_run_itself(paths: &Paths) -> Result<()> {
    folder(&paths.run(), 0o755, (0, 0)).map(|_| ())
}

/// The same, with what lies in it. For root.
pub fn make_run(paths: &Paths, host: &Host) -> Result<()> {
    make_run_itself(paths)?;
    entered(&paths.sockets(), host)?;
    shared(&paths.trouble(), host)
}

/// A folder for the keeper's sockets that only the mail servers' users may enter: a stranger must not fill a
/// socket's queue. For root.
pub fn entered(path: &Path, host: &Host) -> Result<()> {
    let made = folder(path, 0o750, (host.postern_uid, host.postern_gid))?;
    acl::set_entered_folder(&made, path, &host.mail_uids)
}

/// Makes the tally's folder within the state's; tells what it had to move out of the way. For user `postern`.
pub fn make_tally(paths: &Paths, mail_uids: &[u32]) -> Result<Option<String>> {
    let path = paths.tally_dir();
    let (made, told) = match own_folder(&path) {
        Ok(folder) => (folder, None),
        Err(_) => {
            let aside = out_of_the_way(&path)?;
            DirBuilder::new().mode(0o770).create(&path).map_err(Error::file("make", &path))?;
            let told = aside.map(|to| {
                format!("{} was not Postern's folder and is now {}.", path.display(), to.display())
            });
            (own_folder(&path)?, told)
        }
    };
    made.set_permissions(Permissions::from_mode(0o2770)).map_err(Error::file("set the mode of", &path))?;
    acl::set_shared_folder(&made, &path, mail_uids)?;
    Ok(told)
}

fn shared(path: &Path, host: &Host) -> Result<()> {
    let made = folder(path, 0o2770, (host.postern_uid, host.postern_gid))?;
    acl::set_shared_folder(&made, path, &host.mail_uids)
}

/// Opened without following a link, and only then changed.
fn folder(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<File> {
    let parent = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(Error::file("make", parent))?;
    is_roots(parent)?;
    match DirBuilder::new().mode(0o755).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(Error::file("make", path)(e)),
        _ => {}
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder =
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOTDIR | libc::ELOOP) => in_the_way(path),
            _ => Error::file("open", path)(e),
        })?;
    fchown(&folder, Some(uid), Some(gid)).map_err(Error::file("give away", path))?;
    folder.set_permissions(Permissions::from_mode(mode)).map_err(Error::file("set the mode of", path))?;
    Ok(folder)
}

fn in_the_way(path: &Path) -> Error {
    Error::State(format!("{} is in the way: it is no folder.", path.display()))
}

/// Where others can write, a name may lead elsewhere by the time that root gives it away.
fn is_roots(parent: &Path) -> Result<()> {
    let about = std::fs::metadata(parent).map_err(Error::file("examine", parent))?;
    let by_group = about.mode() & 0o020 != 0 && about.gid() != 0;
    if about.uid() == 0 && about.mode() & 0o002 == 0 && !by_group {
        return Ok(());
    }
    Err(Error::NotAllowed(format!(
        "Others than root can write {}, so root does not work in it: give that folder to root, mode 0755.",
        parent.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    const HOST: (u32, u32) = (61000, 61000);

    fn scene() -> Option<(tempfile::TempDir, Paths, Host)> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        make_own(&paths).unwrap();
        Some((dir, paths, Host { postern_uid: HOST.0, postern_gid: HOST.1, mail_uids: vec![61001] }))
    }

    fn owner(path: &Path) -> (u32, u32) {
        let meta = path.symlink_metadata().unwrap();
        (meta.uid(), meta.gid())
    }

    #[test]
    fn every_folder_has_its_owner_and_a_second_run_changes_nothing() {
        let Some((_dir, paths, host)) = scene() else { return };
        for _ in 0..2 {
            make_given(&paths, &host).unwrap();
            for path in [paths.etc(), paths.lib(), paths.run()] {
                assert_eq!(owner(&path), (0, 0), "{path:?}");
            }
            for path in [paths.data(), paths.state_dir(), paths.trouble(), paths.sockets()] {
                assert_eq!(owner(&path), HOST, "{path:?}");
            }
            assert!(!paths.tally_dir().exists(), "root makes nothing in the state's folder");
        }
    }

    #[test]
    fn root_touches_nothing_in_a_folder_that_others_can_write() {
        let Some((dir, _, _)) = scene() else { return };
        let parent = dir.path().join("parent");
        std::fs::create_dir(&parent).unwrap();
        for (owner_of_parent, mode) in [(61001, 0o755), (0, 0o777), (0, 0o1777)] {
            chown(&parent, Some(owner_of_parent), Some(0)).unwrap();
            std::fs::set_permissions(&parent, Permissions::from_mode(mode)).unwrap();
            assert!(folder(&parent.join("inner"), 0o755, HOST).is_err());
            assert!(!parent.join("inner").exists());
        }
    }

    #[test]
    fn a_link_or_a_file_in_place_of_a_folder_is_in_the_way_and_leads_nowhere() {
        let Some((dir, paths, host)) = scene() else { return };
        let victim = dir.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        symlink(&victim, paths.state_dir()).unwrap();
        assert!(make_given(&paths, &host).unwrap_err().to_string().contains("in the way"));
        std::fs::remove_file(paths.state_dir()).unwrap();
        std::fs::write(paths.state_dir(), "").unwrap();
        assert!(make_given(&paths, &host).unwrap_err().to_string().contains("in the way"));
        assert_eq!(owner(&victim), (0, 0));
    }
}
