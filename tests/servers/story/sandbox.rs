//! A sandbox that stays: the process that keeps it, and small commands that talk to it.

use crate::PAIR;
use crate::clients::Way;
use crate::rig::{MAILBOXES, Scene};
use crate::tell::{chapter, heard, tell};
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Between two runs of `postern tick`: a minute on a server, less for somebody who watches.
const TICK: Duration = Duration::from_secs(5);

/// Keeps the scene until somebody stops it: does the minute's work and writes Postern's log.
pub(crate) fn keep(scene: &Scene) {
    say_how(scene);
    let mut log = File::create(scene.path("/rig/postern.log")).unwrap();
    scene.keep();
    let mut ticked = Instant::now();
    while !scene.released() {
        if ticked.elapsed() >= TICK {
            // Its troubles stand in the log.
            let _ = scene.postern(&["tick"]);
            ticked = Instant::now();
        }
        for line in scene.take_syslog() {
            let _ = writeln!(log, "{line}");
        }
        sleep(Duration::from_millis(200));
    }
}

fn say_how(scene: &Scene) {
    chapter("The sandbox stays");
    tell("Go on with it:");
    println!(
        "
    scripts/try login alice@example.test 200.160.2.3     log in from any address, by every service
    scripts/try send alice@example.test 79.192.0.1 151      send messages
    scripts/try postern status                           the admin program; every command of it
    scripts/try --stop                                   end it

    Your own mail program: IMAP {address}:10144, POP3 {address}:10111, SMTP {address}:10026, without
    TLS. To Postern it comes from this server itself. With a PROXY line first, ports 10143, 10110, 10025.",
        address = scene.address()
    );
    println!();
    for mailbox in MAILBOXES {
        println!("    {:<22} {}", mailbox.name, mailbox.password);
    }
    println!(
        "
    Its system       {}
    Postern's log    {}
    Exim's log       {}
    The hooks' time  {} (+21601: six hours and a second from now)",
        scene.path("/").display(),
        scene.path("/rig/postern.log").display(),
        scene.path("/rig/exim/log/mainlog").display(),
        scene.path("/rig/clock").display(),
    );
}

fn kept() -> Option<Scene> {
    let scene = Scene::visit(PAIR);
    if scene.is_none() {
        eprintln!("No sandbox is running: begin one with scripts/try --keep.");
    }
    scene
}

pub(crate) fn stop() {
    match Scene::visit(PAIR) {
        Some(scene) => {
            scene.release();
            println!("The sandbox has ended.");
        }
        None => println!("No sandbox is running."),
    }
}

fn password(mailbox: &str) -> &'static str {
    MAILBOXES.iter().find(|known| known.name == mailbox).map_or("no-such-mailbox", |known| known.password)
}

/// One login by each service; success when all let the mailbox in.
pub(crate) fn login(mailbox: &str, from: &str) -> ExitCode {
    let Some(scene) = kept() else { return ExitCode::FAILURE };
    let mut all = true;
    for way in [Way::Imap, Way::Pop3, Way::SmtpPlain] {
        let reply = scene.login_as(way, from, mailbox, password(mailbox));
        heard(&format!("{mailbox} by {way:?} from {from}"), &reply);
        all &= reply.yes;
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sends messages by one connection until the first refusal.
pub(crate) fn send(mailbox: &str, from: &str, count: &str) -> ExitCode {
    let Some(scene) = kept() else { return ExitCode::FAILURE };
    let count: u32 = count.parse().unwrap_or(1);
    let mut smtp = scene.smtp(from);
    let mut reply = smtp.auth_plain(mailbox, password(mailbox));
    let mut sent = 0;
    while reply.yes && sent < count {
        reply = smtp.send(mailbox, &["friend@remote.test"], "From the sandbox");
        sent += u32::from(reply.yes);
    }
    heard(&format!("{mailbox} from {from}: {sent} of {count} messages sent; the last answer:"), &reply);
    if reply.yes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The admin program in the sandbox.
pub(crate) fn postern(words: &[&str]) -> ExitCode {
    let Some(scene) = kept() else { return ExitCode::FAILURE };
    let ran = scene.postern(words);
    print!("{}", ran.stdout);
    eprint!("{}", ran.stderr);
    ran.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
