//! A disk of its own for the state: small enough to be full.

use super::{Scene, eventually};
use nix::libc;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const STATE: &str = "/var/lib/postern/state";

/// Has mounts of its own from here on: they end with the thread and what it starts, however it ends. For a thread
/// that has not set its scene yet.
pub(crate) fn mount_in_private() {
    // SAFETY: no memory is involved; what this thread shares with others afterwards is no working folder.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    run("mount", &["--make-rprivate", "/"]);
}

pub(crate) fn run(program: &str, words: &[&str]) {
    let ran = Command::new(program).args(words).output().unwrap();
    assert!(ran.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// The disk, until it is taken away.
pub(crate) struct SmallDisk {
    folder: PathBuf,
    disk: PathBuf,
    filler: Option<Filler>,
}

/// Takes every byte that somebody leaves.
struct Filler {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Scene {
    /// Moves the state to a small disk. Whoever had it open works with the old one, until he opens it again.
    pub(crate) fn on_small_disk(&self) -> SmallDisk {
        let small = SmallDisk { folder: self.path(STATE), disk: self.path("/rig/small"), filler: None };
        fs::create_dir_all(&small.disk).unwrap();
        let (folder, disk) = (text(&small.folder), text(&small.disk));
        run("mount", &["-t", "tmpfs", "-o", "size=1m,mode=2770", "small", disk]);
        run("cp", &["--archive", "--no-target-directory", folder, disk]);
        run("mount", &["--bind", disk, folder]);
        small
    }
}

impl SmallDisk {
    /// Fills it to the last byte, and keeps it so. The next line of the tally begins a file, which needs room for
    /// sure.
    pub(crate) fn fill(&mut self) {
        let _ = fs::remove_file(self.folder.join("tally/current"));
        let mut file = File::create(self.disk.join("fill")).unwrap();
        assert!(file.write_all(&vec![0; 2 << 20]).is_err(), "the disk is full");
        let ended: Arc<AtomicBool> = Arc::default();
        let until = ended.clone();
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                while file.write_all(&[0; 512]).is_ok() {}
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        self.filler = Some(Filler { ended, thread });
    }

    pub(crate) fn make_room(&mut self) {
        if let Some(filler) = self.filler.take() {
            filler.ended.store(true, Ordering::Relaxed);
            filler.thread.join().unwrap();
        }
        fs::remove_file(self.disk.join("fill")).unwrap();
    }

    /// Takes it away, once nobody has anything open on it.
    pub(crate) fn take_away(self) {
        eventually("what was held open has ended", || {
            Command::new("umount").args([&self.folder, &self.disk]).status().unwrap().success()
        });
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Some(filler) = &self.filler {
            filler.ended.store(true, Ordering::Relaxed);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
