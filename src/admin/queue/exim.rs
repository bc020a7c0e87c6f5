//! Exim's queue: `exim -bpr` for the names, `exim -Mvh` for each message's own notes (the -H file, as the specification's
//! chapter "Format of spool files" has it).

use super::{By, Queued, about_one, bounded, whole_list};
use crate::account::Account;
use crate::error::Result;
use crate::request::MessageId;
use std::collections::HashSet;
use std::path::Path;

/// Every message, as far as they can be looked at.
pub(super) fn messages(program: &Path, warnings: &mut Vec<String>) -> Result<Vec<Queued>> {
    let listed = listed(&whole_list(program, "-bpr")?);
    let about = |(message, size): (MessageId, i64)| {
        let header = about_one(program, &["-Mvh", &message.to_string()])?;
        queued(message, size, &header)
    };
    Ok(bounded(listed, "Exim", warnings).into_iter().filter_map(about).collect())
}

/// Names and sizes. A message's line is `25m  2.9K 0t5C6f-0000c8-00 <sender>`; those of recipients begin with more blanks.
fn listed(text: &str) -> Vec<(MessageId, i64)> {
    let mut seen = HashSet::new();
    let of_message = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (size, message) = (size(words.next()?), MessageId::new(words.next()?).ok()?);
        (!message.is_of_postfix()).then_some((message, size))
    };
    let lines = text.lines().filter(|line| !line.starts_with("     ")).filter_map(of_message);
    lines.filter(|(message, _)| seen.insert(message.to_string())).collect()
}

/// `289`, `2.9K`, `1.2M` in bytes.
fn size(word: &str) -> i64 {
    let (number, unit) = match word.strip_suffix(['K', 'M', 'G']) {
        Some(number) => (number, word.chars().last()),
        None => (word, None),
    };
    let times = match unit {
        Some('K') => 1024.0,
        Some('M') => 1_048_576.0,
        Some(_) => 1_073_741_824.0,
        None => 1.0,
    };
    #[allow(clippy::cast_possible_truncation)]
    number.parse::<f64>().map_or(0, |n| (n * times) as i64)
}

/// Takes a line off the bytes.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if rest.is_empty() {
        return None;
    }
    let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    Some(line)
}

/// What Exim noted of the message when it came. Values of a configuration's own variables can hold anything, lines that
/// look like a login too: their length stands before them, and they are passed over.
fn queued(message: MessageId, size: i64, header: &[u8]) -> Option<Queued> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut rest = header;
    line(&mut rest)?;
    // `login uid gid`; a login may have blanks.
    let user = text(line(&mut rest)?);
    let user = user.rsplitn(3, ' ').nth(2)?.to_owned();
    let sender = text(line(&mut rest)?);
    let sender = sender.strip_prefix('<')?.strip_suffix('>')?.to_owned();
    let since = text(line(&mut rest)?).split(' ').next()?.parse().ok()?;
    let (mut login, mut has_host, mut frozen) = (None, false, false);
    while rest.first() == Some(&b'-') {
        let option = text(line(&mut rest)?);
        // One dash more, and maybe a word in brackets, where the value came from outside.
        let option = option.trim_start_matches('-');
        let option = option.strip_prefix('(').and_then(|o| o.split_once(')')).map_or(option, |(_, o)| o);
        let (name, value) = option.split_once(' ').unwrap_or((option, ""));
        match name {
            "acl" | "aclc" | "aclm" => {
                let length: usize = value.rsplit(' ').next()?.parse().ok()?;
                rest = rest.get(length.checked_add(1)?..)?;
            }
            "auth_id" => login = Account::from_server(value),
            "host_address" => has_host = true,
            "frozen" => frozen = true,
            _ => {}
        }
    }
    // Those who have it already, a tree, then how many there are in all.
    let recipients = loop {
        let line = text(line(&mut rest)?);
        if let Ok(n) = line.parse() {
            break n;
        }
    };
    let local = Account::from_server(&user);
    let (account, by) = match (login, has_host) {
        // Who hands it in by a program of this machine is noted as logged in by his user's name.
        (login, false) if login.is_none() || login == local => (local, By::LocalUser),
        (Some(login), _) => (Some(login), By::Login),
        (None, _) => (Account::from_server(&sender), By::Sender),
    };
    Some(Queued { message, since, size, recipients, frozen, sender, account, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "1xW3sF-000000005sq-0Rcy";

    fn read(header: &str) -> Option<Queued> {
        queued(MessageId::new(ID).unwrap(), 289, header.as_bytes())
    }

    fn whose(header: &str) -> (Option<String>, By) {
        let queued = read(header).unwrap();
        (queued.account.map(|a| a.name().to_owned()), queued.by)
    }

    #[test]
    fn names_and_sizes_are_read_from_the_list_and_recipients_are_no_messages() {
        let text = " 0m   289 1xW3sF-000000005sq-0Rcy <root@a.test> *** frozen ***\n          root@a.test\n\n\
                    25m  2.9K 0t5C6f-0000c8-00 <a-b-c@x.test> (web)\n        D 1x 1 1xW3sF-000000005sq-0Rcz@y.test\n          1 2 a-b-c\n";
        let found: Vec<_> = listed(text).into_iter().map(|(id, size)| (id.to_string(), size)).collect();
        assert_eq!(found, [(ID.to_owned(), 289), ("0t5C6f-0000c8-00".to_owned(), 2969)]);
    }

    #[test]
    fn the_login_comes_before_the_local_user_and_the_sender_last() {
        let head = "1xW3sF-000000005sq-0Rcy-H\nDebian-exim 102 104\n<boss@other.test>\n1700000000 0\n-received_time_usec .1\n";
        let end = "-body_linecount 1\nXX\n2\na@remote.test\nb@remote.test\n\n020I From: x\n";
        let remote = "--helo_name client\n-host_address [192.0.2.7]:587\n";
        let by_login =
            read(&format!("{head}{remote}--auth_id Alice@Example.test\n-frozen 1700000009\n{end}"));
        let by_login = by_login.unwrap();
        assert_eq!(by_login.account, "alice@example.test".parse().ok());
        assert_eq!((by_login.by, by_login.recipients, by_login.frozen), (By::Login, 2, true));
        assert_eq!((by_login.sender.as_str(), by_login.since), ("boss@other.test", 1_700_000_000));
        assert_eq!(whose(&format!("{head}-auth_id bob\n{end}")), (Some("bob".into()), By::Login));
        assert_eq!(whose(&format!("{head}{remote}{end}")), (Some("boss@other.test".into()), By::Sender));
        assert_eq!(whose(&format!("{head}--auth_id Debian-exim\n-local\n{end}")).1, By::LocalUser);
        assert_eq!(whose(&format!("{head}-local\n{end}")), (Some("debian-exim".into()), By::LocalUser));
    }

    #[test]
    fn nothing_that_a_client_wrote_is_taken_for_a_login() {
        let head = "x-H\nweb 2001 2001\n<>\n1700000000 0\n";
        let forged = "x\n-auth_id alice@example.test\n";
        let variable = format!("--aclm _subject {}\n{forged}\n", forged.len());
        let end =
            "XX\n1\n-auth_id@remote.test\n\n030  -auth_id alice@example.test\n-auth_id alice@example.test\n";
        assert_eq!(whose(&format!("{head}{variable}{end}")), (Some("web".into()), By::LocalUser));
        let tree = "YN -auth_id\nNN 7@remote.test\nNN x\n3\n";
        assert_eq!(read(&format!("{head}{tree}")).unwrap().recipients, 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "x-H\nweb 1 1\n<>\n1 0\n(-(acl|aclm) _x [0-9]{0,22}\n|-[a-z(]{0,9}\n){0,9}[XY]X\n1\n") {
            let _ = queued(MessageId::new(ID).unwrap(), 0, &bytes);
            let _ = queued(MessageId::new(ID).unwrap(), 0, text.as_bytes());
            listed(&String::from_utf8_lossy(&bytes));
        }
    }
}
