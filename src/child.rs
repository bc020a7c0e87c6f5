//! Programs that are started and may not take for ever.

use nix::libc;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::FromRawFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// A file without a name that holds these bytes, to be read from its beginning.
pub fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    // SAFETY: a C string of ours; the descriptor that comes back is nobody else's.
    let mut file = unsafe {
        let fd = libc::memfd_create(c"postern".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Waits so long for its end, then kills it; none where that was necessary.
pub fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait().map(|_| None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_program_that_hangs_is_ended_after_its_time_and_one_that_does_not_is_heard() {
        let mut hangs = Command::new("/bin/sleep").arg("600").spawn().unwrap();
        assert_eq!(wait(&mut hangs, Duration::from_millis(50)).unwrap(), None);
        assert!(hangs.try_wait().unwrap().is_some());
        let mut fails = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert_eq!(wait(&mut fails, Duration::from_secs(30)).unwrap().unwrap().code(), Some(7));
    }

    #[test]
    fn a_message_is_read_from_its_beginning() {
        let bytes = "line\n".repeat(100_000);
        let cat = Command::new("/bin/cat").stdin(in_memory(bytes.as_bytes()).unwrap()).output().unwrap();
        assert_eq!(cat.stdout, bytes.as_bytes());
    }
}
