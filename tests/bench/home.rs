//! Postern in a folder of its own, with a keeper where one is wanted.

use crate::load::{Asks, Manner, Policy, account, as_user};
use crate::{built, project};
use rusqlite::Connection;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// User `postern`, and a mail server's user: numbers that nobody has.
pub(crate) const POSTERN: u32 = 61_000;
pub(crate) const MAIL: u32 = 61_001;

/// How the keeper wants to be asked.
pub(crate) const MANNER: Manner =
    Manner { protocol_state: "END-OF-MESSAGE", yes: "action=DUNNO\n\n", no: "action=451 4.7.1 " };

/// The keeper, without the port for Dovecot, of which a machine has one.
pub(crate) const KEEPER: [&str; 2] = ["keeper", "--policy-at=none"];

/// A folder with settings, policy, state and the try-out network data.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// With the rules of a server that is in use: countries enforced, the limit as it comes.
    pub(crate) fn new() -> Home {
        let folder = tempfile::TempDir::with_prefix_in("bench-", project().join("target")).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let home = Home { folder };
        let reached = as_user(MAIL, || fs::metadata(home.root()).is_ok());
        assert!(
            reached,
            "other users cannot enter {}: measure in a checkout that they can",
            home.root().display()
        );
        home.postern(&["init", "--user", &POSTERN.to_string(), "--mail-users", &MAIL.to_string()]);
        let data = project().join("target/try-data");
        let file = |name: &str| data.join(name).to_str().unwrap().to_string();
        let asn = format!("{},{}", file("asn-ipv4.csv"), file("asn-ipv6.csv"));
        let country = file("geo-whois-asn-country.mmdb");
        home.postern(&["data", "build", "--country", &country, "--asn", &asn]);
        home.postern(&["settings", "set", "default_server_geoip", "DE"]);
        home.postern(&["countries", "allow", "AT,CH"]);
        home.postern(&["settings", "set", "country_rule", "enforce"]);
        home
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The seam by which a program is told of this folder.
    pub(crate) fn seam(&self) -> String {
        format!("--root={}", self.root().display())
    }

    /// A command that must succeed; what it said.
    pub(crate) fn postern(&self, words: &[&str]) -> String {
        let output = Command::new(built("static/postern")).arg(self.seam()).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Lays this many accounts into the state, each with a few messages within the window.
    pub(crate) fn fill(&self, accounts: usize) {
        as_user(POSTERN, || {
            let mut db = self.state();
            let t = db.transaction().unwrap();
            {
                let sql = "INSERT INTO sender(account, window, last) VALUES (?1, ?2, ?3)";
                let mut insert = t.prepare(sql).unwrap();
                let now = now();
                let window: Vec<u8> = [30, 20, 10].iter().flat_map(|ago| pair(now - ago, 1)).collect();
                for number in 0..accounts {
                    insert.execute((account(number), &window, now)).unwrap();
                }
            }
            t.commit().unwrap();
        });
    }

    fn state(&self) -> Connection {
        Connection::open(self.root().join("var/lib/postern/state/state.db")).unwrap()
    }

    /// How many messages the state has counted since this second.
    pub(crate) fn counted_since(&self, second: i64) -> u64 {
        as_user(POSTERN, || counted_since(&self.state(), second))
    }

    /// Starts a keeper and waits until it listens.
    pub(crate) fn keeper(&self) -> Keeper {
        let mut command = Command::new(built("static/postern"));
        command.arg(self.seam()).args(KEEPER).env_clear().current_dir("/");
        Keeper::begin(command, self.root().join("run/postern/sockets"), MAIL)
    }
}

/// Messages in the windows of all accounts since this second.
pub(crate) fn counted_since(state: &Connection, second: i64) -> u64 {
    let mut statement = state.prepare("SELECT window FROM sender").unwrap();
    let windows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
    let of_window = |window: Vec<u8>| -> u64 {
        let pairs = window.chunks_exact(8).map(|p| (word(&p[..4]), word(&p[4..])));
        pairs.filter(|(at, _)| i64::from(*at) >= second).map(|(_, n)| u64::from(n)).sum()
    };
    windows.map(|window| of_window(window.unwrap())).sum()
}

/// A second and how many, as a window is stored.
fn pair(at: i64, n: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&(at as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&n.to_le_bytes());
    bytes
}

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A keeper that runs. Dropped: it has ended.
pub(crate) struct Keeper {
    child: Child,
    pub(crate) sockets: PathBuf,
}

impl Keeper {
    /// Runs the command that starts it, and waits until it answers this user.
    pub(crate) fn begin(mut command: Command, sockets: PathBuf, user: u32) -> Keeper {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let keeper = Keeper { child, sockets };
        let begun = Instant::now();
        while as_user(user, || UnixStream::connect(keeper.postfix()).is_err()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the keeper does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        keeper
    }

    pub(crate) fn postfix(&self) -> PathBuf {
        self.sockets.join("postfix")
    }

    pub(crate) fn client(&self) -> Box<dyn Asks> {
        Box::new(Policy::connect(&self.postfix(), MANNER))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Memory in use, in MB.
    pub(crate) fn megabytes(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1000.0
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
