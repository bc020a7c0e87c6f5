//! The two servers: their configuration, their start and their end.

use super::root::{Root, project};
use super::{Doors, DovecotDoor, MAILBOXES, MailServer, postfix};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

const EXIM_PROGRAM: &str = "/usr/libexec/postern/postern-exim";
const DOVECOT_PROGRAM: &str = "/usr/libexec/postern/postern-dovecot";

/// Ports that answer when the servers are up.
const DOVECOT_PORTS: [u16; 6] = [10143, 10144, 10993, 10110, 10111, 10995];
const MAIL_PORTS: [u16; 4] = [10025, 10026, 10465, 10587];

/// Writes everything that the servers read.
pub(super) fn configure(root: &Root, doors: Doors, postfix: &postfix::Settings) {
    let dovecot = if root.pair().has_dovecot_2_4() { "dovecot-2.4.conf" } else { "dovecot-2.3.conf" };
    put(root, "/rig/dovecot.conf", &template(root, dovecot));
    put(root, "/rig/passdb.conf", &password_stages(doors));
    put(root, "/rig/postlogin.conf", &postlogin(root, doors.postlogin));
    put(root, "/rig/checkpassword", &template(root, "checkpassword"));
    put(root, "/rig/at-clock", &template(root, "at-clock"));
    put(root, "/rig/clock", "+0");
    put_users(root);
    let script = "set -e
        chmod 755 /rig/checkpassword /rig/at-clock
        mkdir -p /rig/dovecot/run /rig/dovecot/state /rig/mail/outside /rig/mail/local
        chown -R vmail:vmail /rig/mail";
    super::inside::run(root, "root", &["sh", "-c", script], "").succeeded();
    match root.pair().mail_server() {
        MailServer::Exim => configure_exim(root, doors),
        MailServer::Postfix => postfix::configure(root, doors, postfix),
    }
}

/// A file of tests/servers/config, filled in.
pub(super) fn template(root: &Root, name: &str) -> String {
    fs::read_to_string(project().join("tests/servers/config").join(name))
        .unwrap()
        .replace("@ADDRESS@", &root.address().to_string())
}

fn configure_exim(root: &Root, doors: Doors) {
    let macros = if doors.exim { "POSTERN = yes\n" } else { "" };
    put(root, "/etc/exim4/exim4.conf", &format!("{macros}{}", template(root, "exim.conf")));
    if doors.exim {
        put_exim_hooks(root);
    }
    let script = "mkdir -p /rig/exim/spool /rig/exim/log && chown -R Debian-exim:Debian-exim /rig/exim";
    super::inside::run(root, "root", &["sh", "-c", script], "").succeeded();
}

/// The snippets that administrators paste, with one change: the program is told the test's time.
fn put_exim_hooks(root: &Root) {
    let at_clock = format!("{EXIM_PROGRAM} --now=${{readfile{{/rig/clock}}{{}}}}");
    for entry in fs::read_dir(project().join("hooks/exim")).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        let snippet = fs::read_to_string(&file).unwrap().replace(EXIM_PROGRAM, &at_clock);
        put(root, &format!("/rig/hooks/{name}"), &snippet);
    }
}

/// Dovecot 2.3's password stages: the real one is a password file, or, in chain form, a password program.
fn password_stages(doors: Doors) -> String {
    let real = "passdb {\n  driver = passwd-file\n  args = /rig/users\n}\n";
    let before = match doors.dovecot {
        None | Some(DovecotDoor::Policy) => real.to_owned(),
        Some(DovecotDoor::Gate) => dovecot_hook("gate-2.3.conf") + real,
        Some(DovecotDoor::Chain) => {
            dovecot_hook("chain-2.3.conf").replace("/path/to/checkpassword", "/rig/checkpassword")
        }
    };
    if doors.failed { before + &dovecot_hook("failed-2.3.conf") } else { before }
}

fn postlogin(root: &Root, wanted: bool) -> String {
    match root.pair().has_dovecot_2_4() {
        _ if !wanted => String::new(),
        false => dovecot_hook("postlogin-2.3.conf"),
        true => dovecot_hook("postlogin-2.4.conf"),
    }
}

/// A snippet that administrators paste, with one change: the program is told the test's time.
fn dovecot_hook(name: &str) -> String {
    fs::read_to_string(project().join("hooks/dovecot").join(name))
        .unwrap()
        .replace(DOVECOT_PROGRAM, &format!("/rig/at-clock {DOVECOT_PROGRAM}"))
}

fn put_users(root: &Root) {
    let mut users = String::new();
    for mailbox in MAILBOXES {
        users += &format!("{}:{{PLAIN}}{}\n", mailbox.name, mailbox.password);
        let (name, domain) = mailbox.name.split_once('@').unwrap();
        fs::create_dir_all(root.path(&format!("/rig/mail/hosted/{domain}/{name}"))).unwrap();
    }
    put(root, "/rig/users", &users);
}

pub(super) fn put(root: &Root, inside: &str, text: &str) {
    let path = root.path(inside);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The mail server and Dovecot, running in the foreground as our children.
#[derive(Debug)]
pub(super) struct Servers {
    children: Vec<Child>,
    keeper: Mutex<Option<Child>>,
}

/// Where the keeper answers Exim: the last of its sockets.
const KEEPER_SOCKET: &str = "/run/postern/sockets/exim";

impl Servers {
    /// Starts both and waits until every port answers; the keeper, where there is one, before them.
    pub(super) fn start(root: &Root, keeper: bool) -> Servers {
        let mut servers = Servers { children: Vec::new(), keeper: Mutex::default() };
        if keeper {
            servers.start_keeper(root);
        }
        servers.begin(root);
        servers
    }

    pub(super) fn restart(&mut self, root: &Root) {
        let keeper = self.keeper.lock().unwrap().is_some();
        self.end();
        root.sweep();
        if keeper {
            self.start_keeper(root);
        }
        self.begin(root);
    }

    /// Starts the keeper; what is left of an earlier one has ended by itself or by a signal.
    pub(super) fn start_keeper(&self, root: &Root) {
        let mut keeper = self.keeper.lock().unwrap();
        if let Some(mut earlier) = keeper.take() {
            let _ = earlier.kill();
            let _ = earlier.wait();
        }
        let policy_at = format!("--policy-at={}", super::policy::ours(root));
        let words = ["/usr/sbin/postern", "--now=@/rig/clock", "keeper", &policy_at];
        let mut begun = foreground(root, "/rig/keeper.out", &words);
        let (socket, started) = (root.path(KEEPER_SOCKET), Instant::now());
        while UnixStream::connect(&socket).is_err() {
            let ended = begun.try_wait().unwrap();
            let waits = ended.is_none() && started.elapsed() < Duration::from_secs(20);
            assert!(waits, "the keeper does not answer (ended: {ended:?}){}", outputs(root));
            sleep(Duration::from_millis(2));
        }
        *keeper = Some(begun);
    }

    pub(super) fn signal_keeper(&self, signal: Signal) {
        let keeper = self.keeper.lock().unwrap();
        let keeper = keeper.as_ref().expect("the scene has a keeper");
        kill(Pid::from_raw(keeper.id().cast_signed()), signal).unwrap();
    }

    /// Tells it to end, and waits until it has.
    pub(super) fn end_keeper(&self) {
        self.signal_keeper(Signal::SIGTERM);
        let mut ending = self.keeper.lock().unwrap().take().expect("the scene has a keeper");
        assert_eq!(ending.wait().unwrap().code(), Some(0));
    }

    fn begin(&mut self, root: &Root) {
        // Dovecot first: a process of Postfix's that does not find it gives up, and is not replaced for a minute.
        let dovecot: &[&str] = &["/usr/sbin/dovecot", "-F", "-c", "/rig/dovecot.conf"];
        self.children.push(foreground(root, "/rig/dovecot.out", dovecot));
        for port in DOVECOT_PORTS {
            self.await_answer(root, &format!("port {port}"), || {
                TcpStream::connect((root.address(), port)).is_ok()
            });
        }
        let socket = root.path("/rig/dovecot/run/auth-client");
        self.await_answer(root, "Dovecot's socket for logins", || socket.exists());
        self.children.push(match root.pair().mail_server() {
            MailServer::Exim => foreground(root, "/rig/exim.out", &["/usr/sbin/exim4", "-bdf"]),
            MailServer::Postfix => {
                foreground(root, "/rig/postfix.out", &["/usr/lib/postfix/sbin/master", "-s"])
            }
        });
        for port in MAIL_PORTS {
            self.await_answer(root, &format!("port {port}"), || {
                TcpStream::connect((root.address(), port)).is_ok()
            });
        }
    }

    fn await_answer(&mut self, root: &Root, what: &str, answers: impl Fn() -> bool) {
        let started = Instant::now();
        while !answers() {
            self.complain_if_ended(root);
            assert!(started.elapsed() < Duration::from_secs(20), "{what} does not answer{}", outputs(root));
            sleep(Duration::from_millis(10));
        }
    }

    fn complain_if_ended(&mut self, root: &Root) {
        for child in self.children.iter_mut() {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("a mail server ended at its start ({status}){}", outputs(root));
            }
        }
    }

    fn end(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let mut ending: Vec<Child> = self.children.drain(..).chain(keeper).collect();
        for child in &ending {
            // It may have ended by itself. A keeper that a test has stopped hears this when it goes on.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGCONT);
        }
        for child in &mut ending {
            let _ = child.wait();
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.end();
    }
}

fn foreground(root: &Root, output: &str, words: &[&str]) -> Child {
    let output = File::options().create(true).append(true).open(root.path(output)).unwrap();
    Command::new("chroot")
        .arg(root.folder())
        .args(words)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", words[0]))
}

/// What the servers have said so far, for a complaint.
fn outputs(root: &Root) -> String {
    let read = |inside: &str| {
        let path: &Path = &root.path(inside);
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    };
    [
        "/rig/keeper.out",
        "/rig/exim.out",
        "/rig/exim/log/paniclog",
        "/rig/postfix.out",
        "/rig/postfix/log",
        "/rig/dovecot.out",
        "/rig/dovecot/log",
    ]
    .map(|inside| format!("\n--- {inside}\n{}", read(inside)))
    .concat()
}
