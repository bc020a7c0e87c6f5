//! A folder with everything that Postern has on a server, and its programs to call.
//!
//! The scene is set by building: `Sandbox::new().countries("DE").exempt_ip("198.51.100.9")`. Time stands still
//! at [`NOON`] until [`Sandbox::wait`] moves it.

mod dovecot;
mod files;
mod keeper;
mod process;
mod syslog;
mod terminal;

pub(crate) use dovecot::Call;
pub(crate) use files::{Mounted, mode_of, owner_of};
pub(crate) use keeper::{Keeper, as_user, ask, eventually};
pub(crate) use process::{FOREVER, Ran, finish_with_input, run};
pub(crate) use terminal::{on_terminal, on_watched_terminal};

use mmdb_writer::{IpVersion, Ipv4Aliasing, Writer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};
use syslog::Syslog;
use tempfile::TempDir;

/// Where time stands at first.
pub(crate) const NOON: i64 = 1_795_608_000;

/// The users, by number; their groups have the same numbers.
pub(crate) const POSTERN: u32 = 61000;
pub(crate) const EXIM: u32 = 61001;
pub(crate) const DOVECOT: u32 = 61002;
/// A local user who is none of them.
pub(crate) const THIEF: u32 = 61003;

/// Addresses of known countries.
pub(crate) const GERMAN: &str = "192.0.2.7";
pub(crate) const AMERICAN: &str = "198.51.100.9";
pub(crate) const FRENCH: &str = "203.0.113.5";
pub(crate) const GERMAN_V6: &str = "2001:db8:de::7";
pub(crate) const AMERICAN_V6: &str = "2001:db8:15::7";
/// One that the data do not know.
pub(crate) const UNKNOWN: &str = "192.88.99.1";

const COUNTRIES: [(&str, &str); 5] = [
    ("192.0.2.0/24", "DE"),
    ("198.51.100.0/24", "US"),
    ("203.0.113.0/24", "FR"),
    ("2001:db8:de::/48", "DE"),
    ("2001:db8:15::/48", "US"),
];

/// The programs as built for this test.
const PROGRAMS: [(&str, &str); 4] = [
    ("postern", env!("CARGO_BIN_EXE_postern")),
    ("postern-exim", env!("CARGO_BIN_EXE_postern-exim")),
    ("postern-dovecot", env!("CARGO_BIN_EXE_postern-dovecot")),
    ("postern-postfix", env!("CARGO_BIN_EXE_postern-postfix")),
];

/// One server's worth of files.
pub(crate) struct Sandbox {
    folder: TempDir,
    log: Syslog,
    now: AtomicI64,
}

impl Sandbox {
    /// Everything in place: folders, settings with their defaults, state, network data, a log.
    pub(crate) fn new() -> Sandbox {
        let sandbox = Sandbox::without_data();
        sandbox.build_data();
        sandbox.api(&["set_setting", "key=default_server_geoip", "value=DE"]);
        sandbox
    }

    /// The same without network data.
    pub(crate) fn without_data() -> Sandbox {
        let sandbox = Sandbox::bare();
        sandbox.postern(&["init", "--user=61000:61000", "--mail-users=61001:61001,61002:61002"]).succeeded();
        sandbox
    }

    /// The programs and a log, before `postern init`.
    pub(crate) fn bare() -> Sandbox {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests start programs as several users: run them as root"
        );
        let folder = TempDir::with_prefix("postern-it-").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["bin", "dev"].map(|name| folder.path().join(name)) {
            fs::create_dir(folder).unwrap();
        }
        for (name, built) in PROGRAMS {
            let here = folder.path().join("bin").join(name);
            if fs::hard_link(built, &here).is_err() {
                process::copy(Path::new(built), &here);
            }
        }
        let log = Syslog::listen(&folder.path().join("dev/log"));
        Sandbox { folder, log, now: AtomicI64::new(NOON) }
    }

    fn build_data(&self) {
        self.build_data_of(&COUNTRIES, &[]);
    }

    /// Data with these countries, and more sources.
    pub(crate) fn build_data_of(&self, countries: &[(&str, &str)], more: &[String]) {
        let mut writer = Writer::builder("Test-Country")
            .ip_version(IpVersion::V6)
            .ipv4_aliasing(Ipv4Aliasing::Disabled)
            .build_epoch(UNIX_EPOCH + Duration::from_secs(NOON.unsigned_abs() - 86_400))
            .build();
        for (network, code) in countries {
            writer
                .insert(network.parse::<ipnet::IpNet>().unwrap(), &BTreeMap::from([("country_code", code)]))
                .unwrap();
        }
        let source = self.path("country.mmdb");
        fs::write(&source, writer.to_bytes().unwrap()).unwrap();
        let source = format!("--country={}", source.display());
        let more = more.iter().map(String::as_str);
        let words: Vec<&str> = ["data", "build", &source, "--allow-small"].into_iter().chain(more).collect();
        self.postern(&words).succeeded();
    }

    /// Builds the data anew with an ASN table.
    pub(crate) fn with_systems(self, table: &str) -> Sandbox {
        let systems = self.path("asn.csv");
        fs::write(&systems, table).unwrap();
        let country = format!("--country={}", self.path("country.mmdb").display());
        let asn = format!("--asn={}", systems.display());
        self.postern(&["data", "build", &country, &asn, "--allow-small"]).succeeded();
        self
    }

    /// A file below the sandbox's root.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("var/lib/postern/state/state.db")
    }

    pub(crate) fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Moves time.
    pub(crate) fn wait(&self, seconds: i64) -> &Sandbox {
        self.now.fetch_add(seconds, Ordering::Relaxed);
        self
    }

    /// A program with its seams, as this user.
    pub(crate) fn program(&self, name: &str, user: u32, seams: &[&str]) -> Command {
        let mut command = self.program_by_the_clock(name, user);
        command.arg(format!("--now={}", self.now())).args(seams);
        command
    }

    /// With the system's time. A hook with a time of its own does not ask the keeper, who has another.
    pub(crate) fn program_by_the_clock(&self, name: &str, user: u32) -> Command {
        let mut command = Command::new(self.path("bin").join(name));
        command.arg(format!("--root={}", self.root().display())).env_clear().current_dir("/");
        process::become_user(&mut command, user);
        command
    }

    /// `postern`, as root.
    pub(crate) fn postern(&self, words: &[&str]) -> Ran {
        self.postern_as(0, words)
    }

    pub(crate) fn postern_as(&self, user: u32, words: &[&str]) -> Ran {
        let mut command = self.program("postern", user, &[]);
        command.args(words);
        process::run(&mut command)
    }

    /// A function of the API that must succeed; its data.
    #[track_caller]
    pub(crate) fn api(&self, words: &[&str]) -> Value {
        let mut answer = self.postern(&[&["api"], words].concat()).json();
        assert_eq!(answer["status"], 1, "postern api {words:?}: {answer}");
        answer["data"].take()
    }

    /// What the API answers to a JSON object on standard input.
    pub(crate) fn api_says(&self, function: &str, body: &Value) -> Value {
        let mut command = self.program("postern", 0, &[]);
        command
            .args(["api", function, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(body.to_string().as_bytes()).unwrap();
        self.finish(child).json()
    }

    /// The sentence about one part in `postern status`; none where it is not spoken of.
    pub(crate) fn status_of(&self, part: &str) -> Option<(String, String)> {
        let status = self.api(&["status"]);
        let parts = status["parts"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        parts.filter(|p| p["part"] == part).map(|p| (text(&p["state"]), text(&p["says"]))).next()
    }

    /// Whether `postern status` has this part in trouble.
    #[track_caller]
    pub(crate) fn is_in_trouble(&self, part: &str) {
        let found = self.status_of(part);
        assert!(
            found.as_ref().is_some_and(|(state, _)| state == "TROUBLE"),
            "{part}: {:?}",
            self.api(&["status"])
        );
    }

    /// What was logged since the last time.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.take()
    }

    /// How many of the lines logged since the last time hold this text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// One row and column of the state.
    pub(crate) fn in_state<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        rusqlite::Connection::open(self.state()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Runs any program as this user.
    pub(crate) fn run_as(&self, command: &mut Command, user: u32) -> Ran {
        process::become_user(command, user);
        process::run(command)
    }

    /// Waits for a program that was started.
    #[track_caller]
    pub(crate) fn finish(&self, child: Child) -> Ran {
        process::finish(child)
    }

    /// A script that everybody may run.
    pub(crate) fn install(&self, path: &Path, script: &str) {
        let draft = self.path("draft");
        fs::write(&draft, script).unwrap();
        self.copy_program(&draft, path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A copy that can be run at once.
    pub(crate) fn copy_program(&self, from: &Path, to: &Path) {
        process::copy(from, to);
    }

    /// The files and folders of this owner below a folder.
    pub(crate) fn files_of(&self, user: u32, below: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(below)).unwrap().map(|e| e.unwrap().path());
        entries.filter(|path| owner_of(path).0 == user).collect()
    }

    /// Gives a file or folder to a user.
    pub(crate) fn give(&self, path: &Path, user: u32) {
        chown(path, Some(user), Some(user)).unwrap();
    }
}

/// What the administrator sets up.
impl Sandbox {
    pub(crate) fn setting(self, key: &str, value: &str) -> Sandbox {
        self.api(&["set_setting", &format!("key={key}"), &format!("value={value}"), "confirm=on"]);
        self
    }

    /// Enforces the country rule with these countries for the server.
    pub(crate) fn countries(self, list: &str) -> Sandbox {
        self.api(&["set_countries", &format!("countries={list}"), "confirm=on"]);
        self.setting("country_rule", "enforce")
    }

    pub(crate) fn countries_for(self, subject: &str, list: &str) -> Sandbox {
        self.api(&["set_countries", &format!("for={subject}"), &format!("countries={list}"), "confirm=on"]);
        self
    }

    pub(crate) fn exempt_ip(self, value: &str) -> Sandbox {
        self.api(&["add_ip_exemption", &format!("value={value}")]);
        self
    }

    pub(crate) fn exempt_user(self, value: &str) -> Sandbox {
        self.api(&["add_user_exemption", &format!("value={value}")]);
        self
    }

    pub(crate) fn whitelisted(self, value: &str) -> Sandbox {
        self.api(&["add_whitelist", &format!("value={value}")]);
        self
    }

    pub(crate) fn blocked(self, value: &str) -> Sandbox {
        self.api(&["add_block", &format!("value={value}")]);
        self
    }

    pub(crate) fn allowance(self, subject: &str, from: &str, until: &str) -> Sandbox {
        self.api(&[
            "add_allowance",
            &format!("for={subject}"),
            &format!("from={from}"),
            &format!("until={until}"),
        ]);
        self
    }
}

/// Exim's questions, as its user.
impl Sandbox {
    /// The line that Exim reads. The exit status is 0 whatever the answer.
    #[track_caller]
    pub(crate) fn exim(&self, seams: &[&str], words: &[&str]) -> String {
        self.exim_as(EXIM, seams, words)
    }

    #[track_caller]
    pub(crate) fn exim_as(&self, user: u32, seams: &[&str], words: &[&str]) -> String {
        let mut command = self.program("postern-exim", user, seams);
        command.args(words);
        process::run(&mut command).succeeded()
    }

    #[track_caller]
    pub(crate) fn auth(&self, address: &str) -> String {
        self.exim(&[], &["auth", &format!("--address={address}")])
    }

    #[track_caller]
    pub(crate) fn mail(&self, account: &str, address: &str) -> String {
        self.exim(&[], &["mail", &format!("--address={address}"), &format!("--account={account}")])
    }

    /// A message through SMTP.
    #[track_caller]
    pub(crate) fn send(&self, account: &str) -> String {
        self.exim(&[], &Sandbox::message(account).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What Exim says of a message through SMTP.
    pub(crate) fn message(account: &str) -> [String; 8] {
        [
            "send".into(),
            format!("--address={GERMAN}"),
            format!("--account={account}"),
            "--uid=61001".into(),
            format!("--sender={account}"),
            "--recipients=1".into(),
            "--id=1xW1Xt-0000gl-1R".into(),
            "--from=data".into(),
        ]
    }

    /// A message of a program on this machine.
    #[track_caller]
    pub(crate) fn send_locally(&self, account: &str, uid: u32, id: &str) -> String {
        let (account, uid, id) =
            (format!("--account={account}"), format!("--uid={uid}"), format!("--id={id}"));
        self.exim(
            &[],
            &["send", "--from=local", "--address=", &account, &uid, "--sender=", "--recipients=1", &id],
        )
    }

    /// Sends so many; all must be allowed.
    #[track_caller]
    pub(crate) fn sends_freely(&self, account: &str, many: usize) -> &Sandbox {
        for n in 1..=many {
            assert_eq!(self.send(account), "allow\n", "message {n}");
        }
        self
    }
}
