//! A Debian folder that one scene at a time has for itself.

use fs2::FileExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::iter;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// Is in a folder that is whole.
const WHOLE: &str = ".postern-rig";

/// A pair of mail servers, called by the Debian release that brings them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    /// Debian 12: Exim 4.96 with Dovecot 2.3.
    Bookworm,
    /// Debian 13: Exim 4.98 with Dovecot 2.4.
    Trixie,
    /// Debian 12: Postfix 3.7 with Dovecot 2.3.
    BookwormPostfix,
    /// Debian 13: Postfix 3.10 with Dovecot 2.4.
    TrixiePostfix,
    /// As the first one, with programs to measure Postern beside.
    BookwormPeers,
    /// As the first one, with fail2ban.
    BookwormFail2ban,
    /// As the second one, with fail2ban.
    TrixieFail2ban,
}

/// The server of a pair that takes and sends mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailServer {
    Exim,
    Postfix,
}

impl Pair {
    /// The pairs with Exim, the server of the panels that Postern is made for first.
    pub(crate) const ALL: [Pair; 2] = [Pair::Bookworm, Pair::Trixie];
    /// The pairs with Postfix.
    pub(crate) const POSTFIX: [Pair; 2] = [Pair::BookwormPostfix, Pair::TrixiePostfix];
    /// The pairs with Exim and those with Postfix.
    pub(crate) const EVERY: [Pair; 4] =
        [Pair::Bookworm, Pair::Trixie, Pair::BookwormPostfix, Pair::TrixiePostfix];

    pub(crate) fn mail_server(self) -> MailServer {
        match self {
            Pair::Bookworm
            | Pair::Trixie
            | Pair::BookwormPeers
            | Pair::BookwormFail2ban
            | Pair::TrixieFail2ban => MailServer::Exim,
            Pair::BookwormPostfix | Pair::TrixiePostfix => MailServer::Postfix,
        }
    }

    /// Is its Dovecot 2.4, which has no checkpassword stage?
    pub(crate) fn has_dovecot_2_4(self) -> bool {
        matches!(self, Pair::Trixie | Pair::TrixiePostfix | Pair::TrixieFail2ban)
    }

    /// The users that its servers ask Postern as.
    pub(super) fn mail_users(self) -> &'static str {
        match self.mail_server() {
            MailServer::Exim => "Debian-exim,dovecot",
            MailServer::Postfix => "postfix,dovecot",
        }
    }

    /// Its folder, and the second like it where that was built: as many scenes can run at the same time.
    fn folders(self) -> impl Iterator<Item = PathBuf> {
        let folder = project().join("target/servers").join(match self {
            Pair::Bookworm => "bookworm",
            Pair::Trixie => "trixie",
            Pair::BookwormPostfix => "bookworm-postfix",
            Pair::TrixiePostfix => "trixie-postfix",
            Pair::BookwormPeers => "bookworm-peers",
            Pair::BookwormFail2ban => "bookworm-fail2ban",
            Pair::TrixieFail2ban => "trixie-fail2ban",
        });
        let mut second = folder.clone().into_os_string();
        second.push("-second");
        let second = PathBuf::from(second);
        iter::once(found(&folder)).chain(second.join(WHOLE).exists().then(|| found(&second)))
    }
}

fn found(folder: &Path) -> PathBuf {
    assert!(
        folder.join(WHOLE).exists(),
        "the mail servers' folder {} is missing: run tests/servers/build-roots",
        folder.display()
    );
    fs::canonicalize(folder).unwrap()
}

/// The project's own folder.
pub(super) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder. Taken: nobody else's scene runs in it until this is dropped.
#[derive(Debug)]
pub(super) struct Root {
    pair: Pair,
    folder: PathBuf,
    _lock: Option<File>,
}

impl Root {
    /// Takes one of the pair's folders; waits while other scenes have them all.
    pub(super) fn take(pair: Pair) -> Root {
        assert!(nix::unistd::geteuid().is_root(), "the mail servers need root: run scripts/test as root");
        loop {
            for root in Root::all(pair) {
                match root.try_lock() {
                    Ok(root) => return root,
                    Err(root) => assert!(
                        !root.kept().exists(),
                        "a sandbox of scripts/try runs here: end it with scripts/try --stop"
                    ),
                }
            }
            // Nobody can wait for several locks at a time.
            sleep(Duration::from_millis(20));
        }
    }

    /// Takes this very folder, once whoever has it lets it go.
    pub(super) fn take_over(&self) -> Root {
        let lock = self.lock_file();
        lock.lock_exclusive().unwrap();
        Root { pair: self.pair, folder: self.folder.clone(), _lock: Some(lock) }
    }

    /// The folder of a sandbox that another process keeps running; none if there is no such sandbox.
    pub(super) fn visit(pair: Pair) -> Option<Root> {
        Root::all(pair).find(|root| root.kept().exists())
    }

    fn all(pair: Pair) -> impl Iterator<Item = Root> {
        pair.folders().map(move |folder| Root { pair, folder, _lock: None })
    }

    fn try_lock(self) -> Result<Root, Root> {
        let lock = self.lock_file();
        if lock.try_lock_exclusive().is_ok() { Ok(Root { _lock: Some(lock), ..self }) } else { Err(self) }
    }

    fn lock_file(&self) -> File {
        File::create(self.folder.with_extension("lock")).unwrap()
    }

    /// Is there while a sandbox is kept running; holds the number of the process that keeps it.
    pub(super) fn kept(&self) -> PathBuf {
        self.path("/rig/kept")
    }

    pub(super) fn pair(&self) -> Pair {
        self.pair
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a path of the folder's system lies in ours.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        self.folder.join(inside.trim_start_matches('/'))
    }

    /// The loopback address of this folder's servers. Made from the folder's name, so that two checkouts on
    /// one machine can test at the same time on the same ports.
    pub(super) fn address(&self) -> Ipv4Addr {
        let mut hash: u32 = 0x811c_9dc5;
        for byte in self.folder.as_os_str().as_encoded_bytes() {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
        let [a, b, c, _] = hash.to_be_bytes();
        // Never 127.0.x.x, which other programs use, and never a last byte of 0 or 255.
        Ipv4Addr::new(127, 1 + a % 254, b, 1 + c % 254)
    }

    /// Removes what a scene before this one left: mail, queue, logs, configuration, Postern's files.
    pub(super) fn wipe(&self) {
        for inside in ["/rig", "/etc/postern", "/var/lib/postern", "/run/postern", "/dev/log"] {
            let path = self.path(inside);
            let gone = match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) => Err(error),
            };
            match gone {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    panic!("cannot remove {}: {error}", path.display())
                }
                _ => {}
            }
        }
    }

    /// Ends every process that runs in this folder, at once: what they leave is wiped. Only a scene starts any there, so whatever is found
    /// belongs to this scene, or to one whose test run was killed.
    pub(super) fn sweep(&self) {
        for _ in 0..200 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left {
                // It may have ended meanwhile; that is what is wanted.
                let _ = kill(pid, Signal::SIGKILL);
            }
            sleep(Duration::from_millis(10));
        }
        panic!("processes in {} do not end: {:?}", self.folder.display(), self.processes());
    }

    /// The processes whose root folder is this one or lies in it (a chrooted service of Postfix).
    fn processes(&self) -> Vec<Pid> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                fs::read_link(format!("/proc/{pid}/root")).is_ok_and(|at| at.starts_with(&self.folder))
            })
            .map(Pid::from_raw)
            .collect()
    }
}
