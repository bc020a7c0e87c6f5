//! A terminal for a program to speak to.

use super::process::{FOREVER, Ran};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs a program whose standard output and standard error are a terminal of so many columns; what it showed, without
/// the carriage returns that terminals put before line ends.
#[track_caller]
pub(crate) fn on_terminal(command: Command, columns: u16) -> Ran {
    on_watched_terminal(command, columns, |_| {})
}

/// The same; `watch` sees what was shown so far each time that there is more.
#[track_caller]
pub(crate) fn on_watched_terminal(
    mut command: Command,
    columns: u16,
    mut watch: impl FnMut(&str) + Send + 'static,
) -> Ran {
    let size = Winsize { ws_row: 25, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).unwrap();
    let (out, err) = (terminal.slave.try_clone().unwrap(), terminal.slave.try_clone().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::from(out)).stderr(Stdio::from(err));
    let mut child = command.spawn().unwrap();
    drop((command, terminal.slave));
    let mut screen = File::from(terminal.master);
    let reader = std::thread::spawn(move || {
        let (mut shown, mut piece) = (Vec::new(), [0; 4096]);
        // The end is an error here: nobody holds the other side any more.
        while let Ok(n @ 1..) = screen.read(&mut piece) {
            shown.extend_from_slice(&piece[..n]);
            watch(&String::from_utf8_lossy(&shown));
        }
        String::from_utf8_lossy(&shown).replace("\r\n", "\n")
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > FOREVER {
            child.kill().unwrap();
            panic!("a program did not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    Ran { status: status.code(), signal: None, out: reader.join().unwrap(), err: String::new() }
}
