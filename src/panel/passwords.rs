//! Whether a mailbox's password was changed since, from the files in which a panel keeps passwords.
//!
//! cPanel has them in `/home/USER/etc/DOMAIN/shadow`, a line `name:hash:day:…` for each mailbox, in the form of shadow(5):
//! the third field is the day of the last change since 1970. The account's owner may lay links and files there, so root
//! follows no link below the home, reads a file of the account's own or of root's, and no more of it than such a file
//! can have. What is read is compared and never shown.

use crate::account::Account;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::local_user;
use crate::paths::Paths;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

const DAY: Seconds = 86_400;

/// Largest file that is read: some 30,000 mailboxes of one domain.
const MOST: u64 = 4 * 1024 * 1024;

/// What is known of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// It was changed since.
    Changed,
    /// It was not.
    NotChanged,
    /// Nothing tells; why.
    NotKnown(String),
}

/// What cPanel's file says of this mailbox of the local user. A change on the very day is one since then only where the
/// file was written since, too.
pub(super) fn in_shadow(paths: &Paths, user: &str, account: &Account, since: Seconds) -> Result<Password> {
    let (uid, home) = local_user::home_of(paths, user)
        .ok_or_else(|| Error::NotFound(format!("/etc/passwd has no user {user}.")))?;
    let (name, domain) = account.name().rsplit_once('@').unwrap_or_default();
    let place = format!("{home}/etc/{domain}/shadow");
    let failed = || Error::file("read", place.as_ref());
    if domain.is_empty() || domain.starts_with('.') || domain.contains('/') {
        return Err(Error::NotFound(format!("{domain} is no domain's folder.")));
    }
    let home = paths.root().join(home.trim_start_matches('/'));
    let directory = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(home);
    let mut at = OwnedFd::from(directory.map_err(failed())?);
    let plain = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    for (part, kind) in
        [("etc", OFlag::O_DIRECTORY), (domain, OFlag::O_DIRECTORY), ("shadow", OFlag::empty())]
    {
        at = openat(&at, part, plain | kind, Mode::empty()).map_err(|e| failed()(e.into()))?;
    }
    let file = File::from(at);
    let about = file.metadata().map_err(failed())?;
    if !about.is_file() || ![0, uid].contains(&about.uid()) || about.nlink() != 1 || about.len() > MOST {
        return Err(Error::NotAllowed(format!("{place} is no plain file of {user}'s own of at most 4 MB.")));
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(failed())?;
    let Some(day) = day_in(&bytes, name) else {
        return Err(Error::NotFound(format!(
            "{place} does not say when the password of {account} was changed."
        )));
    };
    let was = day > since / DAY || (day == since / DAY && about.mtime() > since);
    Ok(if was { Password::Changed } else { Password::NotChanged })
}

/// The day of the last change in the mailbox's line.
fn day_in(shadow: &[u8], name: &str) -> Option<i64> {
    shadow.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        if !fields.next()?.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{CPanel, Panel};
    use nix::unistd::geteuid;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// 2023-11-14 22:13:20.
    const STOPPED: Seconds = 1_700_000_000;
    const THAT_DAY: i64 = 19_675;

    /// A server with cPanel's files, as far as they are asked; the shadow file has this day.
    fn scene(day: i64) -> (tempfile::TempDir, Paths, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path());
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("home2/ann/etc/ann.test")).unwrap();
        fs::create_dir_all(at("etc")).unwrap();
        fs::create_dir_all(at("usr/local/cpanel")).unwrap();
        fs::write(at("etc/passwd"), format!("ann:x:{}:1001::/home2/ann:/bin/bash\n", geteuid())).unwrap();
        fs::write(at("etc/userdomains"), "ann.test: ann\n*: nobody\n").unwrap();
        fs::write(at("etc/trueuserdomains"), "ann.test: ann\n").unwrap();
        fs::write(at("etc/trueuserowners"), "ann: root\n").unwrap();
        let shadow = at("home2/ann/etc/ann.test/shadow");
        fs::write(&shadow, format!("info:$6$a$b:19000::::::\nalice:$6$x$y:{day}::::::\n")).unwrap();
        (folder, paths, shadow)
    }

    fn told(paths: &Paths, account: &str) -> Password {
        CPanel.password_since(paths, &account.parse().unwrap(), STOPPED)
    }

    fn written_at(path: &PathBuf, seconds: Seconds) {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap());
        File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn the_day_of_the_last_change_tells_and_on_the_same_day_whether_the_file_was_written_since() {
        for (day, written, expected) in [
            (THAT_DAY - 1, STOPPED + 9, Password::NotChanged),
            (THAT_DAY, STOPPED, Password::NotChanged),
            (THAT_DAY, STOPPED + 1, Password::Changed),
            (THAT_DAY + 1, STOPPED + 90_000, Password::Changed),
        ] {
            let (_folder, paths, shadow) = scene(day);
            written_at(&shadow, written);
            assert_eq!(told(&paths, "alice@ann.test"), expected, "{day} {written}");
            assert_eq!(told(&paths, "info@ann.test"), Password::NotChanged);
        }
    }

    #[test]
    fn what_the_files_do_not_say_is_not_known_and_why_is_said() {
        let (_folder, paths, shadow) = scene(THAT_DAY + 1);
        let why = |account: &str| match told(&paths, account) {
            Password::NotKnown(why) => why,
            other => panic!("{account}: {other:?}"),
        };
        assert!(why("nobody@ann.test").contains("does not say when"));
        assert!(why("alice@other.test").contains("other.test"));
        for line in ["alice:$6$x$y", "alice:$6$x$y::", "alice:$6$x$y:soon:", "", "\u{0}"] {
            fs::write(&shadow, line).unwrap();
            assert!(why("alice@ann.test").contains("does not say when"), "{line}");
        }
        fs::File::create(&shadow).unwrap().set_len(MOST + 1).unwrap();
        assert!(why("alice@ann.test").contains("at most 4 MB"));
        fs::remove_file(&shadow).unwrap();
        assert!(why("alice@ann.test").contains("shadow"));
    }

    #[test]
    fn no_link_is_followed_and_no_pipe_or_folder_read() {
        let (folder, paths, shadow) = scene(THAT_DAY + 1);
        let is_not_known = || matches!(told(&paths, "alice@ann.test"), Password::NotKnown(_));
        assert!(!is_not_known());
        let real = folder.path().join("real");
        fs::hard_link(&shadow, &real).unwrap();
        assert!(is_not_known(), "a second name");
        fs::remove_file(&shadow).unwrap();
        symlink(&real, &shadow).unwrap();
        assert!(is_not_known(), "a link");
        fs::remove_file(&shadow).unwrap();
        nix::unistd::mkfifo(&shadow, Mode::from_bits_truncate(0o600)).unwrap();
        assert!(is_not_known(), "a pipe");
        fs::remove_file(&shadow).unwrap();
        fs::create_dir(&shadow).unwrap();
        assert!(is_not_known(), "a folder");
        fs::remove_dir(&shadow).unwrap();
        fs::copy(&real, &shadow).unwrap();
        assert!(!is_not_known());
        let (domain, elsewhere) = (shadow.parent().unwrap(), folder.path().join("elsewhere"));
        fs::rename(domain, &elsewhere).unwrap();
        symlink(&elsewhere, domain).unwrap();
        assert!(is_not_known(), "a link in the place of the folder");
        if geteuid().is_root() {
            fs::remove_file(domain).unwrap();
            fs::rename(&elsewhere, domain).unwrap();
            std::os::unix::fs::chown(&shadow, Some(61009), None).unwrap();
            assert!(is_not_known(), "a stranger's");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(a:[$a-z]{0,3}:[0-9-]{0,22}:?\n?){0,4}") {
            let _ = day_in(&bytes, "a");
            let _ = day_in(text.as_bytes(), "a");
        }
    }
}
