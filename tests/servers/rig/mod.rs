//! The rig: a pair of real servers in a Debian folder, started afresh for each scene.
//!
//! ```ignore
//! let scene = Scene::on(Pair::Bookworm).doors(Doors::BOTH).start();
//! let answer = scene.login(Way::Imap, "200.160.2.3", &ALICE);
//! ```
//!
//! A scene has a folder for itself (a file lock; while all folders of its pair are taken it waits), begins with
//! empty mailboxes, queue and logs and no memory of Postern, and ends its servers when it is dropped. Clients
//! arrive from any address by the PROXY protocol, in the clear or by TLS; nothing leaves loopback.

// The tests and the story of scripts/try share this module and each uses its own part of it.
#![allow(dead_code, unused_imports)]

mod answers;
mod disk;
mod inside;
mod mail;
mod policy;
mod postern;
mod postfix;
mod root;
mod servers;
mod socket;
mod syslog;

pub(crate) use disk::{SmallDisk, mount_in_private, run};
pub(crate) use inside::{Ran, at_once, eventually};
pub(crate) use policy::OnPort;
pub(crate) use postern::root_of_network_data;
pub(crate) use root::{MailServer, Pair};
pub(crate) use socket::{OnSocket, Standing};

use nix::sys::signal::Signal;

use crate::clients::{Imap, Pop3, Reply, Route, Smtp, Tls, Way};
use root::Root;
use servers::Servers;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Mutex;
use syslog::Syslog;

/// A mailbox of the rig.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The address, which is the login too.
    pub(crate) name: &'static str,
    pub(crate) password: &'static str,
}

pub(crate) const ALICE: Mailbox = Mailbox { name: "alice@example.test", password: "secret-of-alice" };
pub(crate) const BOB: Mailbox = Mailbox { name: "bob@example.test", password: "secret-of-bob" };
pub(crate) const CAROL: Mailbox = Mailbox { name: "carol@example.test", password: "secret-of-carol" };
pub(crate) const DAVE: Mailbox = Mailbox { name: "dave@other.test", password: "secret-of-dave" };
pub(crate) const ERIN: Mailbox = Mailbox { name: "erin@other.test", password: "secret-of-erin" };
/// Receives the notices to the administrator, and the mail for root and postmaster.
pub(crate) const ADMIN: Mailbox = Mailbox { name: "admin@example.test", password: "secret-of-admin" };
pub(crate) const MAILBOXES: [&Mailbox; 6] = [&ALICE, &BOB, &CAROL, &DAVE, &ERIN, &ADMIN];

/// How Dovecot asks Postern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DovecotDoor {
    /// A password stage before the real one (2.3 only).
    Gate,
    /// Around the panel's own password program (2.3 only).
    Chain,
    /// Its policy server.
    Policy,
}

/// Whom Postfix asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostfixDoor {
    /// Programs that it starts itself, by spawn(8).
    Programs,
    /// The keeper, by its sockets.
    Keeper,
}

/// Which servers ask Postern. To be written as a change to another one: `Doors { exim: true, ..Doors::NONE }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doors {
    pub(crate) exim: bool,
    pub(crate) postfix: Option<PostfixDoor>,
    /// Postfix asks before AUTH, too, on the ports for submission.
    pub(crate) before_auth: bool,
    pub(crate) dovecot: Option<DovecotDoor>,
    /// Postern asks the policy server that was there before, in its turn.
    pub(crate) other_policy: bool,
    /// The standing process, which the servers ask first.
    pub(crate) keeper: bool,
    /// Dovecot 2.3's failed stage behind the real password stage.
    pub(crate) failed: bool,
    /// Dovecot's post-login script for IMAP and POP3.
    pub(crate) postlogin: bool,
}

impl Doors {
    pub(crate) const NONE: Doors = Doors {
        exim: false,
        postfix: None,
        before_auth: false,
        dovecot: None,
        other_policy: false,
        keeper: false,
        failed: false,
        postlogin: false,
    };
    pub(crate) const EXIM: Doors = Doors { exim: true, ..Doors::NONE };
    /// All of Postfix's.
    pub(crate) const POSTFIX: Doors =
        Doors { postfix: Some(PostfixDoor::Programs), before_auth: true, ..Doors::NONE };
    pub(crate) const POSTFIX_BY_KEEPER: Doors =
        Doors { postfix: Some(PostfixDoor::Keeper), keeper: true, ..Doors::POSTFIX };
    pub(crate) const DOVECOT: Doors = Doors { dovecot: Some(DovecotDoor::Gate), ..Doors::NONE };
    pub(crate) const BOTH: Doors = Doors { exim: true, ..Doors::DOVECOT };
    pub(crate) const POLICY: Doors = Doors { dovecot: Some(DovecotDoor::Policy), ..Doors::NONE };
    pub(crate) const EXIM_AND_POLICY: Doors = Doors { exim: true, ..Doors::POLICY };
    pub(crate) const EXIM_AND_CHAIN: Doors = Doors { dovecot: Some(DovecotDoor::Chain), ..Doors::EXIM };

    /// The same with the keeper.
    pub(crate) const fn and_keeper(self) -> Doors {
        Doors { keeper: true, ..self }
    }

    /// These and those.
    pub(crate) const fn and(self, more: Doors) -> Doors {
        Doors {
            exim: self.exim || more.exim,
            postfix: if more.postfix.is_some() { more.postfix } else { self.postfix },
            before_auth: self.before_auth || more.before_auth,
            dovecot: if more.dovecot.is_some() { more.dovecot } else { self.dovecot },
            other_policy: self.other_policy || more.other_policy,
            keeper: self.keeper || more.keeper,
            failed: self.failed || more.failed,
            postlogin: self.postlogin || more.postlogin,
        }
    }

    /// Why this pair cannot have these doors; nothing where it can.
    pub(crate) fn unfit(self, pair: Pair) -> Option<&'static str> {
        let by_password = (self.dovecot.is_some() && !self.has_policy()) || self.failed;
        match pair.mail_server() {
            MailServer::Postfix if self.exim => Some("There is no Exim."),
            MailServer::Exim if self.postfix.is_some() || self.before_auth => Some("There is no Postfix."),
            _ if by_password && pair.has_dovecot_2_4() => Some("Dovecot 2.4 has no checkpassword stage."),
            _ => None,
        }
    }

    /// Does the mail server ask Postern?
    pub(crate) fn has_mail_server(self) -> bool {
        self.exim || self.postfix.is_some()
    }

    fn any(self) -> bool {
        self != Doors::NONE
    }

    /// Does Dovecot ask Postern as its policy server?
    pub(crate) fn has_policy(self) -> bool {
        self.dovecot == Some(DovecotDoor::Policy)
    }
}

/// A scene that is being set.
#[derive(Debug)]
pub(crate) struct Setting {
    pair: Pair,
    doors: Doors,
    data: bool,
    answers: bool,
    other_policy: bool,
    postfix: postfix::Settings,
}

impl Setting {
    /// Which servers ask Postern; none unless told.
    pub(crate) fn doors(mut self, doors: Doors) -> Self {
        self.doors = doors;
        self
    }

    /// Without network data: no address has a country.
    pub(crate) fn without_data(mut self) -> Self {
        self.data = false;
        self
    }

    /// In place of Exim's hook a program that answers what the test tells it; see `Scene::answer`.
    pub(crate) fn with_told_answers(mut self) -> Self {
        self.answers = true;
        self
    }

    /// With a policy server that was there before; a stand-in that lets every login go on, until told.
    pub(crate) fn with_other_policy_server(mut self) -> Self {
        self.other_policy = true;
        self
    }

    /// Lines of Postfix's main.cf, on top of the rig's own: `smtpd_data_restrictions = …`.
    pub(crate) fn postfix(mut self, main: &str) -> Self {
        self.postfix.main += &format!("{main}\n");
        self
    }

    /// Entries of Postfix's master.cf, which replace the rig's own of the same name and type.
    pub(crate) fn postfix_service(mut self, master: &str) -> Self {
        self.postfix.master += &format!("{master}\n");
        self
    }

    /// One setting of Postfix that counts on this port only: `smtpd_milters = …`.
    pub(crate) fn postfix_on(mut self, port: u16, main: &str) -> Self {
        self.postfix.on_port.push((port, main.to_owned()));
        self
    }

    /// Starts the servers; with a door, Postern's programs are installed and initialised first.
    pub(crate) fn start(self) -> Scene {
        let Setting { pair, doors, data, answers, other_policy, postfix } = self;
        assert_eq!(doors.unfit(pair), None, "{pair:?} {doors:?}");
        let root = Root::take(pair);
        root.sweep();
        root.wipe();
        let syslog = Syslog::listen(&root.path("/dev/log"));
        servers::configure(&root, doors, &postfix);
        let asks_policy = policy::configure(&root, doors.has_policy(), other_policy || doors.other_policy);
        if answers {
            answers::install(&root);
        } else if doors.any() {
            postern::install(&root, data);
            asks_policy.set_address(&root);
        }
        let ports = Mutex::new(asks_policy.ports(&root, doors.keeper));
        let servers = Servers::start(&root, doors.keeper);
        Scene { ports, running: Some((servers, syslog)), root }
    }
}

/// A pair of servers that run. Dropped: they have ended.
#[derive(Debug)]
pub(crate) struct Scene {
    // Dropped in this order: the servers end before their folder is given to the next scene. None where
    // another process keeps them.
    ports: Mutex<BTreeMap<u16, policy::Port>>,
    running: Option<(Servers, Syslog)>,
    root: Root,
}

impl Scene {
    /// Sets a scene on this pair.
    pub(crate) fn on(pair: Pair) -> Setting {
        Setting {
            pair,
            doors: Doors::NONE,
            data: true,
            answers: false,
            other_policy: false,
            postfix: postfix::Settings::default(),
        }
    }

    /// The sandbox that another process keeps running on this pair, if one does.
    pub(crate) fn visit(pair: Pair) -> Option<Scene> {
        Root::visit(pair).map(|root| Scene { ports: Mutex::default(), running: None, root })
    }

    /// The pair of servers.
    pub(crate) fn pair(&self) -> Pair {
        self.root.pair()
    }

    /// Where a file of the scene's system lies in ours: `/rig/clock` and so on.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.path(inside)
    }

    /// Moves the time that the hooks see: `+21601`, `-60`, or epoch seconds.
    pub(crate) fn clock(&self, to: &str) {
        // Renamed into place, so that no hook reads half a time.
        std::fs::write(self.path("/rig/clock.new"), to).unwrap();
        std::fs::rename(self.path("/rig/clock.new"), self.path("/rig/clock")).unwrap();
    }

    /// Ends both servers and starts them again; mail, queue, logs and Postern's memory stay.
    pub(crate) fn restart_servers(&mut self) {
        if let Some((servers, _)) = &mut self.running {
            servers.restart(&self.root);
        }
    }

    /// Sends the keeper a signal.
    pub(crate) fn signal_keeper(&self, signal: Signal) {
        let (servers, _) = self.running.as_ref().expect("another process keeps this scene");
        servers.signal_keeper(signal);
    }

    /// Starts the keeper, anew where it has ended; waits until it answers.
    pub(crate) fn start_keeper(&self) {
        let (servers, _) = self.running.as_ref().expect("another process keeps this scene");
        servers.start_keeper(&self.root);
    }

    /// Ends the keeper and starts it again, one after the other, as a service manager does.
    pub(crate) fn restart_keeper(&self) {
        let (servers, _) = self.running.as_ref().expect("another process keeps this scene");
        servers.end_keeper();
        servers.start_keeper(&self.root);
    }

    /// An SMTP session from this address, greeted.
    pub(crate) fn smtp(&self, from: &str) -> Smtp {
        self.smtp_by(Tls::None, from)
    }

    /// The same on another port of those that want the PROXY line, in the clear.
    pub(crate) fn smtp_on(&self, port: u16, from: &str) -> Smtp {
        Smtp::connect(&self.route(port, Some(from), Tls::None))
    }

    /// The same by TLS: on the submission port, or on the port that speaks TLS from the start.
    pub(crate) fn smtp_by(&self, tls: Tls, from: &str) -> Smtp {
        let port = match tls {
            Tls::None => 10025,
            Tls::Starttls => 10587,
            Tls::Wrapper => 10465,
        };
        Smtp::connect(&self.route(port, Some(from), tls))
    }

    /// An SMTP session from the loopback address itself, without a PROXY line.
    pub(crate) fn smtp_from_loopback(&self) -> Smtp {
        Smtp::connect(&self.route(10026, None, Tls::None))
    }

    /// An IMAP session from this address.
    pub(crate) fn imap(&self, from: &str) -> Imap {
        self.imap_by(Tls::None, from)
    }

    /// The same by TLS.
    pub(crate) fn imap_by(&self, tls: Tls, from: &str) -> Imap {
        let port = if tls == Tls::Wrapper { 10993 } else { 10143 };
        Imap::connect(&self.route(port, Some(from), tls))
    }

    /// An IMAP session from the loopback address itself, without a PROXY line.
    pub(crate) fn imap_from_loopback(&self) -> Imap {
        Imap::connect(&self.route(10144, None, Tls::None))
    }

    /// A POP3 session from this address.
    pub(crate) fn pop3(&self, from: &str) -> Pop3 {
        self.pop3_by(Tls::None, from)
    }

    /// The same by TLS.
    pub(crate) fn pop3_by(&self, tls: Tls, from: &str) -> Pop3 {
        let port = if tls == Tls::Wrapper { 10995 } else { 10110 };
        Pop3::connect(&self.route(port, Some(from), tls))
    }

    /// A POP3 session from the loopback address itself, without a PROXY line.
    pub(crate) fn pop3_from_loopback(&self) -> Pop3 {
        Pop3::connect(&self.route(10111, None, Tls::None))
    }

    fn route<'a>(&self, port: u16, from: Option<&'a str>, tls: Tls) -> Route<'a> {
        Route { server: self.root.address(), port, from, tls, certificate: self.path("/etc/ssl/rig.crt") }
    }

    /// One login with the mailbox's own password; what the server answered to it.
    pub(crate) fn login(&self, way: Way, from: &str, who: &Mailbox) -> Reply {
        self.login_as(way, from, who.name, who.password)
    }

    /// One login with any name and password; what the server answered to it.
    pub(crate) fn login_as(&self, way: Way, from: &str, name: &str, password: &str) -> Reply {
        self.login_by(Tls::None, way, from, name, password)
    }

    /// The same by TLS.
    pub(crate) fn login_by(&self, tls: Tls, way: Way, from: &str, name: &str, password: &str) -> Reply {
        match way {
            Way::SmtpPlain => self.smtp_by(tls, from).auth_plain(name, password),
            Way::SmtpLogin => self.smtp_by(tls, from).auth_login(name, password),
            Way::SmtpCramMd5 => self.smtp_by(tls, from).auth_cram_md5(name, password),
            Way::Imap => self.imap_by(tls, from).login(name, password),
            Way::ImapCramMd5 => self.imap_by(tls, from).authenticate_cram_md5(name, password),
            Way::Pop3 => self.pop3_by(tls, from).login(name, password),
        }
    }

    /// Postern's log lines so far.
    pub(crate) fn syslog(&self) -> Vec<String> {
        self.running.as_ref().map_or_else(Vec::new, |(_, syslog)| syslog.lines())
    }

    /// The same, and forgets them.
    pub(crate) fn take_syslog(&self) -> Vec<String> {
        self.running.as_ref().map_or_else(Vec::new, |(_, syslog)| syslog.take())
    }

    /// The loopback address of this scene's servers.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.root.address()
    }

    /// Tells other processes that this scene is kept running by this one, until `released`.
    pub(crate) fn keep(&self) {
        std::fs::write(self.root.kept(), std::process::id().to_string()).unwrap();
    }

    /// Has somebody asked this scene to end?
    pub(crate) fn released(&self) -> bool {
        !self.root.kept().exists()
    }

    /// Asks the process that keeps this scene to end it, and waits until it has.
    pub(crate) fn release(self) {
        std::fs::remove_file(self.root.kept()).unwrap();
        // Taken when the other process is gone; swept in case it had died.
        self.root.take_over().sweep();
    }

    /// Exim's main log so far.
    pub(crate) fn exim_log(&self) -> String {
        self.read("/rig/exim/log/mainlog")
    }

    /// Exim's panic log: empty while its configuration and snippets are sound.
    pub(crate) fn exim_panic_log(&self) -> String {
        self.read("/rig/exim/log/paniclog")
    }

    /// Postfix's log so far.
    pub(crate) fn postfix_log(&self) -> String {
        self.read("/rig/postfix/log")
    }

    /// The lines in which Postfix's programs say why they gave up: empty while its configuration is sound.
    pub(crate) fn postfix_faults(&self) -> String {
        let log = self.postfix_log();
        let says_why =
            |line: &&str| [": fatal: ", ": panic: ", ": error: "].iter().any(|it| line.contains(it));
        log.lines().filter(says_why).map(|line| format!("{line}\n")).collect()
    }

    /// The log of the mail server, Exim or Postfix, so far.
    pub(crate) fn mail_server_log(&self) -> String {
        match self.pair().mail_server() {
            MailServer::Exim => self.exim_log(),
            MailServer::Postfix => self.postfix_log(),
        }
    }

    /// Dovecot's log so far.
    pub(crate) fn dovecot_log(&self) -> String {
        self.read("/rig/dovecot/log")
    }

    fn read(&self, inside: &str) -> String {
        let bytes = std::fs::read(self.path(inside)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.root.sweep();
        }
    }
}
