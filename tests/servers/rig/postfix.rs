//! Postfix's configuration: the rig's, then the snippets, then what a test wants beside or against it.

use super::root::{Root, project};
use super::{Doors, MAILBOXES, PostfixDoor, inside};
use std::fs::{self, File};
use std::slice;
use std::time::{Duration, SystemTime};

const PROGRAM: &str = "/usr/libexec/postern/postern-postfix";

/// What a test sets in Postfix.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Lines of main.cf.
    pub(super) main: String,
    /// Entries of master.cf.
    pub(super) master: String,
    /// Settings of main.cf that count on one port only.
    pub(super) on_port: Vec<(u16, String)>,
}

/// Writes everything that Postfix reads.
pub(super) fn configure(root: &Root, doors: Doors, settings: &Settings) {
    let (user, group) = numbers(root, "vmail");
    let template = |name: &str| {
        super::servers::template(root, name).replace("@VMAIL@", &user).replace("@VMAIL_GROUP@", &group)
    };
    super::servers::put(root, "/etc/postfix/main.cf", &template("postfix-main.cf"));
    super::servers::put(root, "/etc/postfix/master.cf", &template("postfix-master.cf"));
    put_tables(root);
    if let Some(door) = doors.postfix {
        let on_port = if doors.before_auth { before_auth(door) } else { Vec::new() };
        set(root, &Settings { main: snippet("main.cf", door), master: snippet("master.cf", door), on_port });
    }
    set(root, settings);
    // The queue's folders are those that build-roots made. Local users get their mail with their own rights.
    let script = "set -e
        mkdir -p /rig/postfix/data
        chown postfix /rig/postfix/data
        cp -a /var/spool/postfix /rig/postfix/spool
        chmod 1777 /rig/mail/local";
    inside::run(root, "root", &["sh", "-c", script], "").succeeded();
    cool_down(root);
}

/// Dates the files back that Postfix reads: each program of it sleeps until the last change of each of them is
/// two seconds old.
fn cool_down(root: &Root) {
    let files = ["/etc/postfix/main.cf", "/etc/postfix/master.cf"];
    let tables = ["/rig/postfix/domains", "/rig/postfix/mailboxes", "/rig/postfix/aliases"];
    for file in files.iter().chain(&tables) {
        let file = File::options().append(true).open(root.path(file)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
}

/// A snippet that administrators paste, with one change: the program is told the test's time. Where the keeper is to
/// answer, with the change that its head comment names.
fn snippet(name: &str, door: PostfixDoor) -> String {
    let file = project().join("hooks/postfix").join(name);
    let text = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("no snippet {}: {error}", file.display()))
        .replace(PROGRAM, &format!("/rig/at-clock {PROGRAM}"));
    match door {
        PostfixDoor::Programs => text,
        PostfixDoor::Keeper => text
            .replace("unix:private/postern-milter", "unix:/run/postern/sockets/milter")
            .replace("unix:private/postern,", "unix:/run/postern/sockets/postfix,"),
    }
}

/// The lines for the ports for submission.
fn before_auth(door: PostfixDoor) -> Vec<(u16, String)> {
    let lines = logical_lines(&snippet("submission.cf", door));
    [10587, 10465].into_iter().flat_map(|port| lines.iter().map(move |line| (port, line.clone()))).collect()
}

/// Sets these by Postfix's own program: a setting or service that is there already is replaced.
fn set(root: &Root, settings: &Settings) {
    let Settings { main, master, on_port } = settings;
    let main = logical_lines(main);
    if !main.is_empty() {
        postconf(root, "-e", &main);
    }
    for entry in logical_lines(master) {
        postconf(root, "-M", &[format!("{}={entry}", service(&entry))]);
    }
    for (port, line) in on_port {
        let service = format!("{}:{port}/inet", root.address());
        let entry = postconf(root, "-M", slice::from_ref(&service));
        postconf(root, "-M", &[format!("{service}={} -o {{ {line} }}", logical_lines(&entry)[0])]);
    }
}

fn postconf(root: &Root, option: &str, words: &[String]) -> String {
    cool_down(root);
    let mut command = vec!["/usr/sbin/postconf", option];
    command.extend(words.iter().map(String::as_str));
    inside::run(root, "root", &command, "").succeeded()
}

/// The lines as Postfix reads them: comments left out, continued lines joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        match lines.last_mut() {
            Some(begun) if line.starts_with([' ', '\t']) => *begun += &format!(" {}", line.trim()),
            _ => lines.push(line.trim().to_owned()),
        }
    }
    lines
}

/// What master.cf knows an entry by: its name and type.
fn service(entry: &str) -> String {
    let words: Vec<&str> = entry.split_whitespace().take(2).collect();
    words.join("/")
}

fn put_tables(root: &Root) {
    let mut domains = String::new();
    let mut mailboxes = String::new();
    for mailbox in MAILBOXES {
        let (name, domain) = mailbox.name.split_once('@').unwrap();
        if !domains.contains(domain) {
            domains += &format!("{domain} hosted\n");
        }
        mailboxes += &format!("{} {domain}/{name}/Maildir/\n", mailbox.name);
    }
    super::servers::put(root, "/rig/postfix/domains", &domains);
    super::servers::put(root, "/rig/postfix/mailboxes", &mailboxes);
    let aliases =
        ["root", "postmaster", "mailer-daemon", "abuse"].map(|name| format!("{name} admin@example.test\n"));
    super::servers::put(root, "/rig/postfix/aliases", &aliases.concat());
}

/// The numbers of this user and its group in the folder's system.
fn numbers(root: &Root, user: &str) -> (String, String) {
    let users = fs::read_to_string(root.path("/etc/passwd")).unwrap();
    let line = users.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].to_owned(), fields[3].to_owned())
}
