//! What is said of each kind of event, once for people and once for programs: what happened, to whom, since when, what
//! Postern did, what to do next, how to release.
//!
//! Names and sentences come from the state, which mail users can write: each goes through [`one_line`], and into a command
//! through [`shell_word`].

use super::plan::{Digest, Group};
use crate::clock::{Seconds, readable};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

/// Accounts that a digest names.
const NAMED: usize = 20;

/// Version of the form for programs.
const FORM: u32 = 1;

/// An event as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    /// [`FORM`].
    postern: u32,
    /// `notice`, `digest` or `test`.
    event: &'static str,
    /// The same for the same events, however often they are sent.
    id: String,
    /// The server's name; empty where it is not known.
    server: String,
    /// What kind of event; of a digest nothing.
    kind: String,
    /// The account, a domain (`@example.org`) or the server (`@`); of a digest nothing.
    account: String,
    /// How many equal events.
    count: usize,
    /// When the first happened.
    since: Seconds,
    /// When the last happened.
    last: Seconds,
    /// A line.
    subject: String,
    /// What happened.
    what: String,
    /// What Postern did.
    did: String,
    /// What to do next.
    next: String,
    /// Commands, each with what it is for.
    commands: Vec<Advice>,
    /// What a digest counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Counted>,
}

/// A command with what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Advice {
    purpose: &'static str,
    command: String,
}

/// What a digest counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Counted {
    /// Events by kind.
    kinds: BTreeMap<String, OfKind>,
    /// The first accounts.
    first: Vec<Named>,
    /// How many accounts there are.
    accounts: usize,
    /// Events of which nothing is known but that there were so many.
    gone: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct OfKind {
    says: String,
    events: usize,
    accounts: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Named {
    account: String,
    kind: String,
    says: String,
    count: usize,
    since: Seconds,
}

/// What is said of a kind.
struct Words {
    /// The subject, with `{}` for the account.
    subject: &'static str,
    /// In a digest's list.
    short: &'static str,
    did: &'static str,
    next: &'static str,
    /// What for, and the command with `{}` for the account.
    commands: &'static [(&'static str, &'static str)],
}

const RELEASE: (&str, &str) = ("To release it", "postern blocks release {} --reason \"password changed\"");
const WHITELIST: (&str, &str) = ("If it may send more than others", "postern whitelist add {}");
const LIMITS: (&str, &str) =
    ("To see the limits (`postern limits for` gives somebody another number)", "postern limits list");
const ASK: &str = "Ask its owner whether the messages were meant. If not, its password is probably known to somebody else: change it first, then release.";

fn words(kind: &str) -> Words {
    match kind {
        "stopped" => Words {
            subject: "Postern stopped {} from sending",
            short: "stopped from sending",
            did: "It refuses what this account sends for a time; messages of local programs may be held. The account can still read its mail.",
            next: ASK,
            commands: &[RELEASE, WHITELIST],
        },
        "slowed" => Words {
            subject: "Postern slowed {} down",
            short: "slowed down",
            did: "It lets a small quota leave each hour; the rest waits. The account can still read its mail.",
            next: ASK,
            commands: &[(
                "To let it send as before",
                "postern blocks release {} --reason \"asked its owner\"",
            )],
        },
        "limit_waits" => Words {
            subject: "Postern lets messages of {} wait",
            short: "messages wait",
            did: "What goes beyond the limit leaves when there is room again.",
            next: "Nothing, if it is a newsletter. If not, its password may be known to somebody else.",
            commands: &[LIMITS],
        },
        "beyond_limit" => Words {
            subject: "Postern saw {} pass a limit",
            short: "passed a limit that only tells",
            did: "Nothing was refused: this limit only tells.",
            next: "If that is no newsletter, its password may be known to somebody else: ask its owner.",
            commands: &[LIMITS],
        },
        "over_limit" => Words {
            subject: "Postern saw {} send more than the limit",
            short: "sent more than the limit, not stopped",
            did: "It was not stopped: it stands for many senders, or the limiter only watches.",
            next: "Find out who sent so much: the mail server's log and `postern activity` tell more.",
            commands: &[("To see what else it did", "postern activity --account {}")],
        },
        "owner_allowance" => Words {
            subject: "Postern: an owner allowed logins of {} from elsewhere",
            short: "logins from elsewhere allowed by an owner",
            did: "It lets these logins go on until the allowance ends.",
            next: "Nothing, if you know of it.",
            commands: &[("To see and end it (`postern allowances remove ID`)", "postern allowances list")],
        },
        "owner_release" => Words {
            subject: "Postern: an owner released {}",
            short: "released by an owner",
            did: "It lets the account send again.",
            next: "Look whether it sends too much again.",
            commands: &[("To block it yourself", "postern blocks add {}")],
        },
        _ => Words {
            subject: "Postern has something to tell about {}",
            short: "other events",
            did: "The sentence above says it.",
            next: "Look at what the account did.",
            commands: &[("To see it", "postern activity --account {}")],
        },
    }
}

/// Equal events.
pub(super) fn one(server: &str, group: &Group) -> Told {
    let notice = &group.first;
    let (kind, account) = (one_line(&notice.kind), one_line(&notice.account));
    let words = words(&kind);
    let command = |(purpose, command): &(&'static str, &str)| Advice {
        purpose,
        command: command.replace("{}", &shell_word(in_commands(&account))),
    };
    Told {
        postern: FORM,
        event: "notice",
        id: format!("{}-{}", notice.id, notice.at),
        server: one_line(server),
        count: group.ids.len(),
        since: notice.at,
        last: group.last,
        subject: words.subject.replace("{}", &named(&account)),
        what: one_line(&notice.detail),
        did: words.did.into(),
        next: words.next.into(),
        commands: words.commands.iter().map(command).collect(),
        digest: None,
        kind,
        account,
    }
}

/// What came beyond the ceiling.
pub(super) fn digest(server: &str, digest: &Digest, now: Seconds) -> Told {
    let mut kinds: BTreeMap<String, OfKind> = BTreeMap::new();
    for group in &digest.groups {
        let kind = one_line(&group.first.kind);
        let of_kind = kinds
            .entry(kind)
            .or_insert_with_key(|kind| OfKind { says: words(kind).short.into(), ..OfKind::default() });
        of_kind.events += group.ids.len();
        of_kind.accounts += 1;
    }
    let named = |group: &Group| Named {
        account: one_line(&group.first.account),
        kind: one_line(&group.first.kind),
        says: words(&group.first.kind).short.into(),
        count: group.ids.len(),
        since: group.first.at,
    };
    let accounts: HashSet<&str> = digest.groups.iter().map(|g| g.first.account.as_str()).collect();
    let ids = || digest.groups.iter().flat_map(|g| g.ids.iter());
    let events = ids().count();
    let all = i64::try_from(events).unwrap_or(i64::MAX).saturating_add(digest.gone);
    let since = digest.groups.iter().map(|g| g.first.at).min().unwrap_or(now);
    let last = digest.groups.iter().map(|g| g.last).max().unwrap_or(now);
    Told {
        postern: FORM,
        event: "digest",
        id: format!("{}-{}-{events}-{}", ids().min().unwrap_or(&0), ids().max().unwrap_or(&0), digest.gone),
        server: one_line(server),
        kind: String::new(),
        account: String::new(),
        count: usize::try_from(all).unwrap_or(usize::MAX),
        since,
        last,
        subject: format!("Postern: {all} more events, {} accounts", accounts.len()),
        what: format!("{all} events beyond those that were told one by one."),
        did: "What it did stands beside each kind.".into(),
        next: "Many accounts at once: look for a common cause, as one site with a stolen password or a form that sends.".into(),
        commands: vec![
            Advice { purpose: "To see who is stopped", command: "postern blocks list".into() },
            Advice { purpose: "To see what was refused", command: "postern activity".into() },
            Advice { purpose: "To release one", command: "postern blocks release ACCOUNT --reason \"password changed\"".into() },
        ],
        digest: Some(Counted {
            kinds,
            first: digest.groups.iter().take(NAMED).map(named).collect(),
            accounts: accounts.len(),
            gone: digest.gone,
        }),
    }
}

/// What shows that a channel works.
pub(super) fn test(server: &str, who: &str, now: Seconds) -> Told {
    Told {
        postern: FORM,
        event: "test",
        id: format!("test-{now}"),
        server: one_line(server),
        kind: "test".into(),
        account: String::new(),
        count: 1,
        since: now,
        last: now,
        subject: "Postern: a test of its notices".into(),
        what: format!("{} asked for this by `postern notices test`.", one_line(who)),
        did: "Nothing else.".into(),
        next: "Nothing: notices arrive here.".into(),
        commands: Vec::new(),
        digest: None,
    }
}

impl Told {
    /// For programs.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of whom, for a line about the sending.
    pub(super) fn of_whom(&self) -> String {
        match (&self.digest, self.account.is_empty()) {
            (Some(_), _) => format!("{} more events", self.count),
            (None, true) => "a test".into(),
            (None, false) => self.account.clone(),
        }
    }

    /// The message to the administrator.
    pub(super) fn mail(&self, to: &str) -> String {
        let mut text = head(to, &self.subject);
        let mut line = |name: &str, says: &str| {
            let _ = writeln!(text, "{name}: {says}");
        };
        if !self.server.is_empty() {
            line("Server", &self.server);
        }
        line("What happened", &self.what);
        if !self.account.is_empty() {
            line("To whom", &named(&self.account));
        }
        let since = readable(self.since);
        let span = match self.count {
            1 => since,
            n => format!("{since}, {n} times until {}", readable(self.last)),
        };
        line("Since", &span);
        line("What Postern did", &self.did);
        line("What to do next", &self.next);
        if let Some(counted) = &self.digest {
            counted.write(&mut text);
        }
        for advice in &self.commands {
            let _ = write!(text, "\n{}:\n\n    {}\n", advice.purpose, advice.command);
        }
        text
    }
}

impl Counted {
    fn write(&self, text: &mut String) {
        let _ = writeln!(text);
        for of_kind in self.kinds.values() {
            let _ = writeln!(text, "{:>8}  {} ({} accounts)", of_kind.events, of_kind.says, of_kind.accounts);
        }
        if self.gone > 0 {
            let _ = writeln!(
                text,
                "{:>8}  not known any more: so many waited that the oldest were dropped; `postern activity` shows what was refused",
                self.gone
            );
        }
        let _ = writeln!(text, "\nThe first accounts:\n");
        for one in &self.first {
            let times = if one.count == 1 { String::new() } else { format!(", {} times", one.count) };
            let _ =
                writeln!(text, "    {}: {}{times}, {}", named(&one.account), one.says, readable(one.since));
        }
        let rest = self.accounts.saturating_sub(self.first.len());
        if rest > 0 {
            let _ = writeln!(text, "    and {rest} more");
        }
    }
}

/// The message to an owner about accounts of his. No word of root's commands: he cannot use them.
pub(super) fn to_owner(to: &str, server: &str, groups: &[Group], administrator: &str) -> String {
    let subject = match groups {
        [one] => format!("Mail of {} is held back", one_line(&one.first.account)),
        many => format!("Mail of {} of your accounts is held back", many.len()),
    };
    let mut text = head(to, &subject);
    for group in groups {
        let says = match group.first.kind.as_str() {
            "stopped" => {
                "sent more than an account may send, so it cannot send for a while. It can still read its mail"
            }
            "slowed" => {
                "sent more than an account may send, so only a few messages leave each hour for a while"
            }
            _ => "sent more than an account may send, so further messages wait",
        };
        let account = one_line(&group.first.account);
        let _ = writeln!(text, "{}: {} {says}.", readable(group.first.at), named(&account));
    }
    let of_server = if server.is_empty() { String::new() } else { format!(" {}", one_line(server)) };
    let whom = match administrator.contains('@') {
        true => format!("the administrator of the server{of_server}: {administrator}"),
        false => format!("whoever runs the server{of_server} for you"),
    };
    let _ = write!(
        text,
        "\nIf you did not mean to send so much, somebody else probably knows the password: change it, and look at what your\nwebsites send. If you did, ask to be allowed more.\n\nWhom to ask: {whom}\n"
    );
    text
}

fn head(to: &str, subject: &str) -> String {
    format!(
        "To: {to}\nSubject: {subject}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
    )
}

/// An account as people read it: what is counted together has a key of its own.
fn named(account: &str) -> String {
    match account.strip_prefix('@') {
        Some("") => "all accounts of this server together".into(),
        Some(domain) => format!("the domain {domain}"),
        None => account.into(),
    }
}

/// The same as commands take it.
fn in_commands(account: &str) -> &str {
    account.strip_prefix('@').filter(|domain| !domain.is_empty()).unwrap_or(account)
}

pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// The name as it stands in a command that root may paste: one word, whatever a mail user wrote into the
/// state.
fn shell_word(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._+-".contains(&b));
    if plain { name.into() } else { format!("'{}'", name.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::plan::grouped;
    use crate::store::state::notices::Notice;
    use proptest::prelude::*;

    fn notice(kind: &str, account: &str, detail: &str) -> Notice {
        Notice { id: 1, at: 0, kind: kind.into(), account: account.into(), detail: detail.into() }
    }

    fn told(kind: &str, account: &str, detail: &str) -> Told {
        one("mail.example.test", &grouped(vec![notice(kind, account, detail)])[0])
    }

    #[test]
    fn a_name_from_the_state_is_one_word_of_a_command() {
        assert_eq!(shell_word("alice+x@example.test"), "alice+x@example.test");
        assert_eq!(shell_word("a; rm -rf / #"), "'a; rm -rf / #'");
        assert_eq!(shell_word("a'$(id)"), r"'a'\''$(id)'");
    }

    #[test]
    fn every_kind_says_all_that_is_to_be_said() {
        for kind in [
            "stopped",
            "slowed",
            "limit_waits",
            "beyond_limit",
            "over_limit",
            "owner_allowance",
            "owner_release",
            "new",
        ] {
            let mail = told(kind, "alice@example.test", "The sentence.").mail("root");
            for part in [
                "Server: mail.example.test",
                "What happened: The sentence.",
                "To whom: alice@example.test",
                "Since: 1970-01-01 00:00 UTC\n",
                "What Postern did: ",
                "What to do next: ",
                "\n    postern ",
            ] {
                assert!(mail.contains(part), "{kind}: {part} in {mail}");
            }
        }
        let of_domain = told("stopped", "@example.test", "x").mail("root");
        assert!(
            of_domain.contains("the domain example.test") && of_domain.contains("release example.test "),
            "{of_domain}"
        );
    }

    proptest! {
        #[test]
        fn nothing_from_the_state_adds_a_header_or_breaks_the_json(
            kind in "stopped|\\PC{0,9}|[\\x00-\\x7f]{0,9}", account in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", detail in "\\PC{0,40}|[\\x00-\\x7f]{0,40}",
        ) {
            let groups = grouped(vec![notice(&kind, &account, &detail), notice("x", &account, &detail)]);
            let all = Digest { groups: groups.clone(), gone: 3 };
            for told in [told(&kind, &account, &detail), digest("h", &all, 0), test("h", &account, 0)] {
                let mail = told.mail("root");
                let (headers, _) = mail.split_once("\n\n").unwrap();
                prop_assert_eq!(headers.lines().count(), 5);
                prop_assert!(!mail.contains(|c: char| c.is_control() && c != '\n'));
                let json: serde_json::Value = serde_json::from_str(&told.json()).unwrap();
                prop_assert_eq!(&json["postern"], &serde_json::json!(1));
            }
            let mail = to_owner("ann@elsewhere.test", "h", &groups, "root");
            prop_assert_eq!(mail.split_once("\n\n").unwrap().0.lines().count(), 5);
            prop_assert!(!mail.contains("postern "));
        }
    }
}
