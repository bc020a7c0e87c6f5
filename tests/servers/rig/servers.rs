//! The two servers: their configuration, their start and their end.

use super::root::{Root, project};
use super::{Doors, DovecotDoor, MAILBOXES, Pair};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const EXIM_PROGRAM: &str = "/usr/libexec/postern/postern-exim";
const DOVECOT_PROGRAM: &str = "/usr/libexec/postern/postern-dovecot";

/// Ports that answer when the servers are up.
const PORTS: [u16; 6] = [10025, 10026, 10143, 10144, 10110, 10111];

/// Writes everything that the servers read.
pub(super) fn configure(root: &Root, doors: Doors) {
    let address = root.address().to_string();
    let template = |name: &str| {
        fs::read_to_string(project().join("tests/servers/config").join(name))
            .unwrap()
            .replace("@ADDRESS@", &address)
    };
    let macros = if doors.exim { "POSTERN = yes\n" } else { "" };
    put(root, "/etc/exim4/exim4.conf", &format!("{macros}{}", template("exim.conf")));
    let dovecot = match root.pair() {
        Pair::Bookworm => "dovecot-2.3.conf",
        Pair::Trixie => "dovecot-2.4.conf",
    };
    put(root, "/rig/dovecot.conf", &template(dovecot));
    put(root, "/rig/passdb.conf", &password_stages(doors));
    put(root, "/rig/postlogin.conf", &postlogin(root, doors.postlogin));
    put(root, "/rig/checkpassword", &template("checkpassword"));
    put(
        root,
        "/rig/at-clock",
        "#!/bin/sh\n# Runs a program of Postern's at the time that the test set.\nprogram=$1\nshift\nexec \"$program\" --now=\"$(cat /rig/clock)\" \"$@\"\n",
    );
    put(root, "/rig/clock", "+0");
    put_users(root);
    if doors.exim {
        put_exim_hooks(root);
    }
    let script = "set -e
        chmod 755 /rig/checkpassword /rig/at-clock
        mkdir -p /rig/exim/spool /rig/exim/log /rig/dovecot/run /rig/dovecot/state /rig/mail/outside /rig/mail/local
        chown -R vmail:vmail /rig/mail
        chown -R Debian-exim:Debian-exim /rig/exim";
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
        None => real.to_owned(),
        Some(DovecotDoor::Gate) => dovecot_hook("gate-2.3.conf") + real,
        Some(DovecotDoor::Chain) => {
            dovecot_hook("chain-2.3.conf").replace("/path/to/checkpassword", "/rig/checkpassword")
        }
    };
    if doors.failed { before + &dovecot_hook("failed-2.3.conf") } else { before }
}

fn postlogin(root: &Root, wanted: bool) -> String {
    match root.pair() {
        _ if !wanted => String::new(),
        Pair::Bookworm => dovecot_hook("postlogin-2.3.conf"),
        Pair::Trixie => dovecot_hook("postlogin-2.4.conf"),
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

fn put(root: &Root, inside: &str, text: &str) {
    let path = root.path(inside);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Exim and Dovecot, running in the foreground as our children.
#[derive(Debug)]
pub(super) struct Servers {
    children: Vec<Child>,
}

impl Servers {
    /// Starts both and waits until every port answers.
    pub(super) fn start(root: &Root) -> Servers {
        let mut servers = Servers { children: Vec::new() };
        servers.begin(root);
        servers
    }

    pub(super) fn restart(&mut self, root: &Root) {
        self.end();
        root.sweep();
        self.begin(root);
    }

    fn begin(&mut self, root: &Root) {
        self.children.push(foreground(root, "/rig/exim.out", &["/usr/sbin/exim4", "-bdf"]));
        self.children.push(foreground(
            root,
            "/rig/dovecot.out",
            &["/usr/sbin/dovecot", "-F", "-c", "/rig/dovecot.conf"],
        ));
        let started = Instant::now();
        for port in PORTS {
            while TcpStream::connect((root.address(), port)).is_err() {
                self.complain_if_ended(root);
                assert!(
                    started.elapsed() < Duration::from_secs(20),
                    "port {port} does not answer{}",
                    outputs(root)
                );
                sleep(Duration::from_millis(10));
            }
        }
    }

    fn complain_if_ended(&mut self, root: &Root) {
        for child in &mut self.children {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("a mail server ended at its start ({status}){}", outputs(root));
            }
        }
    }

    fn end(&mut self) {
        for child in &self.children {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        }
        for mut child in self.children.drain(..) {
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
    ["/rig/exim.out", "/rig/exim/log/paniclog", "/rig/dovecot.out", "/rig/dovecot/log"]
        .map(|inside| format!("\n--- {inside}\n{}", read(inside)))
        .concat()
}
