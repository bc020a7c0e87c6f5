//! Programs that are started and may not take for ever.

use crate::error::{Error, Result};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::FromRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Room behind the longest answer: a write that does not fit is refused as a whole, and that there was one must be seen.
const SLACK: u64 = 1024 * 1024;

/// What a program said that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it ended well.
    pub well: bool,
    /// Its standard output. Whatever it is, it comes from outside.
    pub text: String,
    /// How it ended, in words.
    pub ended: String,
}

/// Asks a program: words that no shell sees, a bare environment, nothing to read. Its answer is `most` bytes at most,
/// and it has so long; beyond either it is ended, and that is an error, as is what cannot be started. Programs that it
/// started itself cannot say more either, and end with it.
pub fn ask(program: &Path, words: &[&str], longest: Duration, most: u64) -> Result<Said> {
    let (status, bytes) = hear(program, words, longest, most, false)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said { well: status.success(), text, ended: status.to_string() })
}

/// The same, byte by byte. `errors_too`: what it writes as errors is part of the answer, where it was written.
pub fn hear(
    program: &Path,
    words: &[&str],
    longest: Duration,
    most: u64,
    errors_too: bool,
) -> Result<(ExitStatus, Vec<u8>)> {
    let failed = || Error::system(format!("ask {}", program.display()));
    // Into memory and not through a pipe, which somebody would have to read while we watch the time.
    let mut answer = of_fixed_size(most + SLACK).map_err(failed())?;
    let errors = match errors_too {
        true => Stdio::from(answer.try_clone().map_err(failed())?),
        false => Stdio::null(),
    };
    let mut running = Command::new(program)
        .args(words)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(answer.try_clone().map_err(failed())?)
        .stderr(errors)
        .spawn()
        .map_err(failed())?;
    // Whoever writes moves the position of all.
    let mut position = answer.try_clone().map_err(failed())?;
    let mut is_too_much = || position.stream_position().is_ok_and(|written| written > most);
    let ended = wait_unless(&mut running, longest, &mut is_too_much).map_err(failed())?;
    let gave_up = |what: String| Error::State(format!("{} said {what}: try again.", program.display()));
    if is_too_much() {
        end_group(&running);
        return Err(gave_up(format!("more than {most} bytes")));
    }
    let Some(status) = ended else {
        end_group(&running);
        return Err(gave_up(format!("nothing whole within {} seconds", longest.as_secs())));
    };
    let written = answer.stream_position().map_err(failed())?;
    answer.rewind().map_err(failed())?;
    let mut bytes = Vec::new();
    answer.take(written).read_to_end(&mut bytes).map_err(failed())?;
    Ok((status, bytes))
}

/// Hands these bytes to a program on its standard input: words that no shell sees, a bare environment; what it says is
/// not heard. None where it did not end within its time and was ended, with what it started itself.
pub fn hand(
    program: &Path,
    words: &[&str],
    bytes: &[u8],
    longest: Duration,
) -> std::io::Result<Option<ExitStatus>> {
    let mut running = Command::new(program)
        .args(words)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        // From memory and not through a pipe, which a program that does not read would fill and hold us at.
        .stdin(in_memory(bytes)?)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let ended = wait(&mut running, longest)?;
    if ended.is_none() {
        end_group(&running);
    }
    Ok(ended)
}

/// Ends what the child has started, too.
fn end_group(child: &Child) {
    // Nobody may be left of it, which is what is wanted.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
}

/// A file without a name that never grows: who writes more gets an error, whoever he is and however long he lives.
fn of_fixed_size(bytes: u64) -> std::io::Result<File> {
    let file = nameless(libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)?;
    file.set_len(bytes)?;
    let seals = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

fn nameless(flags: libc::c_uint) -> std::io::Result<File> {
    // SAFETY: a C string of ours; the descriptor that comes back is nobody else's.
    unsafe {
        let fd = libc::memfd_create(c"postern".as_ptr(), flags);
        if fd < 0 { Err(std::io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}

/// A file without a name that holds these bytes, to be read from its beginning.
fn in_memory(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = nameless(libc::MFD_CLOEXEC)?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Waits so long for its end, then kills it; none where that was necessary.
pub fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    wait_unless(child, limit, &mut || false)
}

fn wait_unless(
    child: &mut Child,
    limit: Duration,
    is_too_much: &mut dyn FnMut() -> bool,
) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < limit && !is_too_much() {
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

    fn ask_a_shell(script: &str, most: u64) -> Result<Said> {
        ask(Path::new("/bin/sh"), &["-c", script], Duration::from_millis(2000), most)
    }

    #[test]
    fn a_program_is_asked_without_our_environment_and_may_say_so_much_for_so_long() {
        let said = ask_a_shell("echo \"${HOME-none} $(pwd)\"; exit 3", 100).unwrap();
        assert_eq!((said.well, said.text.as_str()), (false, "none /\n"));
        assert!(ask_a_shell("printf 12345", 5).unwrap().well);
        let both = ["-c", "printf a; printf b >&2; printf '\\377'"];
        let all =
            |errors| hear(Path::new("/bin/sh"), &both, Duration::from_millis(2000), 100, errors).unwrap().1;
        assert_eq!((all(true), all(false)), (b"ab\xff".to_vec(), b"a\xff".to_vec()));
        assert!(ask_a_shell("printf 123456", 5).unwrap_err().to_string().contains("more than 5 bytes"));
        let endless = ask_a_shell("while :; do printf 12345678; done", 1000).unwrap_err().to_string();
        assert!(endless.contains("more than 1000 bytes"), "{endless}");
        // Nor do the programs that it started, whoever is ended.
        let heirs = ask_a_shell("(while :; do printf 12345678 || exit; done)", 1000);
        assert!(heirs.unwrap_err().to_string().contains("more than 1000 bytes"));
        let mut full = of_fixed_size(5).unwrap();
        assert!(full.write_all(b"12345").is_ok() && full.write_all(b"6").is_err());
        let silent = ask(Path::new("/bin/sleep"), &["600"], Duration::from_millis(20), 10).unwrap_err();
        assert!(silent.to_string().contains("nothing whole within"), "{silent}");
        assert!(ask(Path::new("/none"), &[], Duration::from_secs(1), 10).is_err());
    }

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
