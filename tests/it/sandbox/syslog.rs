//! The sandbox's log socket.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Collects lines: they wait in the socket until they are taken.
pub(super) struct Syslog(UnixDatagram);

impl Syslog {
    pub(super) fn listen(path: &Path) -> Syslog {
        let socket = UnixDatagram::bind(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Syslog(socket)
    }

    pub(super) fn take(&self) -> Vec<String> {
        let mut datagram = [0; 65_536];
        let lines = std::iter::from_fn(|| self.0.recv(&mut datagram).ok().map(|n| datagram[..n].to_vec()));
        lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
    }
}
