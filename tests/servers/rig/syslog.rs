//! The log socket of the scene's system: collects what Postern says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Listens from its making to its drop.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Syslog {
    pub(super) fn listen(path: &Path) -> Syslog {
        let socket = UnixDatagram::bind(path)
            .unwrap_or_else(|error| panic!("cannot bind {}: {error} (a shorter folder?)", path.display()));
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        // Short waits, so that the end is noticed.
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let listener = {
            let (lines, ended) = (Arc::clone(&lines), Arc::clone(&ended));
            thread::spawn(move || collect(&socket, &lines, &ended))
        };
        Syslog { path: path.to_owned(), lines, ended, listener: Some(listener) }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn collect(socket: &UnixDatagram, lines: &Mutex<Vec<String>>, ended: &AtomicBool) {
    let mut datagram = [0; 65_536];
    while !ended.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut datagram) {
            lines.lock().unwrap().push(String::from_utf8_lossy(&datagram[..length]).into_owned());
        }
    }
}
