//! What stands for a password that was tried, so that trying it again is known for the same.
//!
//! Sixteen bits of a keyed hash of mailbox and password (SipHash-2-4): too few to confirm a guess with, enough to tell
//! an old telephone from somebody who guesses. The key is new each day, lies in `/run` and is gone with it.

use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use nix::libc;
use siphasher::sip::SipHasher24;
use std::fs::OpenOptions;
use std::hash::Hasher;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// The day for which a key was made, then the key.
const LENGTH: usize = 8 + 16;

/// What stands for this password of this mailbox; none without today's key.
pub fn of_password(paths: &Paths, mailbox: &str, password: &[u8]) -> Option<u16> {
    let (_, key) = kept(paths)?;
    let mut hasher = SipHasher24::new_with_key(&key);
    // The length keeps `ab` and `c` apart from `a` and `bc`.
    hasher.write(&mailbox.len().to_le_bytes());
    hasher.write(mailbox.as_bytes());
    hasher.write(password);
    Some(folded(hasher.finish()))
}

/// The same for a hash that a mail server made.
pub fn of_hash(hash: &str) -> u16 {
    let mut hasher = SipHasher24::new();
    hasher.write(hash.as_bytes());
    folded(hasher.finish())
}

fn folded(hash: u64) -> u16 {
    u16::try_from(hash & 0xffff).unwrap_or_default()
}

/// Makes a new key where there is none of today. For user `postern`.
pub fn renew_key(paths: &Paths, now: Seconds) -> Result<()> {
    let today = now.div_euclid(86_400);
    if kept(paths).is_some_and(|(day, _)| day == today) {
        return Ok(());
    }
    let path = paths.guess_key();
    let new = path.with_extension("new");
    let mut bytes = today.to_le_bytes().to_vec();
    bytes.extend(crate::call::random_bits().to_le_bytes());
    bytes.extend(crate::call::random_bits().to_le_bytes());
    let write = || {
        let _ = std::fs::remove_file(&new);
        let mut options = OpenOptions::new();
        // The folder lets the mail servers' users in, and nobody else.
        options.write(true).create_new(true).mode(0o644).custom_flags(libc::O_NOFOLLOW);
        options.open(&new)?.write_all(&bytes)?;
        std::fs::rename(&new, &path)
    };
    write().map_err(Error::file("make", &path))
}

fn kept(paths: &Paths) -> Option<(i64, [u8; 16])> {
    let mut bytes = [0; LENGTH];
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(paths.guess_key()).ok()?;
    file.read_exact(&mut bytes).ok()?;
    let (day, key) = bytes.split_first_chunk::<8>()?;
    Some((i64::from_le_bytes(*day), key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Seconds = 1_700_000_000;

    #[test]
    fn a_guess_is_the_same_within_a_day_and_differs_by_mailbox_password_and_day() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.sockets()).unwrap();
        assert_eq!(of_password(&paths, "alice", b"secret"), None, "without a key");
        let guesses = |at| {
            renew_key(&paths, at).unwrap();
            let of = |mailbox, password: &str| of_password(&paths, mailbox, password.as_bytes()).unwrap();
            [of("alice", "secret"), of("alice", "secret2"), of("bob", "secret"), of("ali", "cesecret")]
        };
        let today = guesses(NOON);
        assert_eq!(guesses(NOON + 60), today);
        let mut different = today.to_vec();
        // A day's key can make two of sixteen bits alike once in thousands of days.
        different.extend(guesses(NOON + 86_400));
        different.sort_unstable();
        different.dedup();
        assert!(different.len() >= 7, "{different:?}");
    }
}
