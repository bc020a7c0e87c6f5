//! Postfix's queue: `postqueue -j` for the list, `postcat -qeh` for what was noted of each message when it came.

use super::{By, Queued, about_one, bounded, whole_list};
use crate::account::Account;
use crate::clock::Seconds;
use crate::error::Result;
use crate::request::MessageId;
use crate::{local_user, paths::Paths};
use serde::Deserialize;
use std::path::Path;

/// A message as `postqueue -j` has it (postqueue(1), "JSON OBJECT FORMAT").
#[derive(Deserialize)]
struct Listed {
    queue_name: String,
    queue_id: String,
    arrival_time: Seconds,
    message_size: i64,
    sender: String,
    recipients: Vec<serde::de::IgnoredAny>,
}

/// Every message, as far as they can be looked at.
pub(super) fn messages(
    (postqueue, postcat): (&Path, &Path),
    paths: &Paths,
    warnings: &mut Vec<String>,
) -> Result<Vec<Queued>> {
    let listed = listed(&whole_list(postqueue, "-j")?);
    let about = |(message, listed): (MessageId, Listed)| {
        let id = message.to_string();
        let said = about_one(postcat, &["-qeh", &id])?;
        let (account, by) = whose(&String::from_utf8_lossy(&said), &id, &listed.sender, paths);
        Some(Queued {
            message,
            since: listed.arrival_time,
            size: listed.message_size,
            recipients: i64::try_from(listed.recipients.len()).unwrap_or(i64::MAX),
            frozen: listed.queue_name == "hold",
            sender: listed.sender,
            account,
            by,
        })
    };
    Ok(bounded(listed, "Postfix", warnings).into_iter().filter_map(about).collect())
}

fn listed(text: &str) -> Vec<(MessageId, Listed)> {
    let rows = text.lines().filter_map(|line| serde_json::from_str::<Listed>(line).ok());
    let known = rows.filter_map(|row| Some((MessageId::new(&row.queue_id).ok()?, row)));
    // What lies in the maildrop was not taken in yet: whose it is shows when it is, within a second.
    known.filter(|(message, row)| message.is_of_postfix() && row.queue_name != "maildrop").collect()
}

/// Records whose text somebody else chose.
const FREE: [&str; 4] = ["sender_fullname:", "sender:", "original_recipient:", "recipient:"];

/// The local user by the field that pickup(8) puts before all that he wrote, known by the message's own name in it,
/// which nobody knows beforehand; else the login among the attributes; else the sender.
fn whose(text: &str, id: &str, sender: &str, paths: &Paths) -> (Option<Account>, By) {
    let (envelope, fields) = text.split_once("\n*** MESSAGE CONTENTS ").unwrap_or((text, ""));
    if let Some(uid) = local_uid(fields, id) {
        let name = local_user::name_of(paths, uid).unwrap_or_else(|| format!("uid{uid}"));
        return (Account::from_server(&name), By::LocalUser);
    }
    // smtpd(8) writes it before anything that has words of others in it, which may be several lines here.
    let own = envelope.lines().take_while(|line| !FREE.iter().any(|name| line.starts_with(name)));
    let login = own.filter_map(|line| line.strip_prefix("named_attribute: sasl_username=")).next();
    match login.and_then(Account::from_server) {
        Some(login) => (Some(login), By::Login),
        None => (Account::from_server(sender), By::Sender),
    }
}

/// `Received: by server.example.test (Postfix, from userid 2001)` and below it, `id 90E116CE1C6; …`.
fn local_uid(fields: &str, id: &str) -> Option<u32> {
    let mut lines = fields.lines().skip_while(|line| !line.starts_with("Received: "));
    let first = lines.next()?.strip_prefix("Received: by ")?;
    let (_, uid) = first.strip_suffix(')')?.split_once(", from userid ")?;
    let named = lines.next()?.trim_start().strip_prefix("id ")?.split_once(';')?.0;
    if named == id { uid.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "90E116CE1C6";

    fn paths() -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/passwd"), "web:x:2001:2001::/:\n").unwrap();
        let paths = Paths::below(folder.path());
        (folder, paths)
    }

    fn told(text: &str) -> (String, By) {
        let (_folder, paths) = paths();
        let (account, by) = whose(text, ID, "boss@other.test", &paths);
        (account.unwrap().name().to_owned(), by)
    }

    const LOGIN: &str = "named_attribute: sasl_username=alice@example.test\n";

    fn message(envelope: &str, fields: &str) -> String {
        format!(
            "*** ENVELOPE RECORDS deferred/9/{ID} ***\n{envelope}sender: boss@other.test\n\
             *** MESSAGE CONTENTS deferred/9/{ID} ***\n{fields}\n*** HEADER EXTRACTED deferred/9/{ID} ***\n"
        )
    }

    #[test]
    fn the_login_or_the_local_user_has_a_message_and_the_sender_only_without_them() {
        let by_smtp =
            format!("Received: from x (y [192.0.2.7])\n\tby server (Postfix) with ESMTPSA id {ID};\n");
        let local = format!("Received: by server (Postfix, from userid 2001)\n\tid {ID}; now\n");
        assert_eq!(told(&message(LOGIN, &by_smtp)), ("alice@example.test".into(), By::Login));
        assert_eq!(told(&message("", &by_smtp)), ("boss@other.test".into(), By::Sender));
        assert_eq!(told(&message("", &local)), ("web".into(), By::LocalUser));
        // Whatever he managed to write into the envelope.
        assert_eq!(told(&message(LOGIN, &local)), ("web".into(), By::LocalUser));
        let unknown = local.replace("2001", "2009");
        assert_eq!(told(&message("", &unknown)), ("uid2009".into(), By::LocalUser));
    }

    #[test]
    fn what_a_client_wrote_into_its_message_makes_it_nobody_elses() {
        let by_smtp = "Received: from x (y [192.0.2.7])\n\tby server (Postfix) with ESMTP id 90E116CE1C6;\n";
        for claim in [
            format!("{by_smtp}Received: by server (Postfix, from userid 2001)\n\tid {ID}; now\n"),
            format!("{by_smtp}Subject: x\n {LOGIN}{LOGIN}"),
            String::new(),
            "Received: by server (Postfix, from userid 2001)\n\tid 90E116CE1C7; now\n".to_owned(),
        ] {
            assert_eq!(told(&message("", &claim)), ("boss@other.test".into(), By::Sender), "{claim}");
            // sendmail's -F, with a line of its own.
            let named = format!("sender_fullname: x\n{LOGIN}");
            assert_eq!(told(&message(&named, &claim)), ("boss@other.test".into(), By::Sender), "{claim}");
        }
    }

    #[test]
    fn the_list_is_read_line_by_line_and_strange_names_are_left_out() {
        let row = |id: &str| {
            format!(
                "{{\"queue_name\": \"hold\", \"queue_id\": \"{id}\", \"arrival_time\": 1700000000, \"message_size\": 438, \"forced_expire\": false, \"sender\": \"x@y.test\", \"recipients\": [{{\"address\": \"wow!@remote.test\"}}]}}\n"
            )
        };
        let text = [
            row(ID),
            row("-d"),
            row(ID).replace("hold", "maildrop"),
            row("ALL"),
            row("1xW1Xt-0000gl-1R"),
            "broken\n".into(),
        ]
        .concat();
        let names: Vec<_> =
            listed(&text).into_iter().map(|(id, row)| (id.to_string(), row.recipients.len())).collect();
        assert_eq!(names, [(ID.to_owned(), 1)]);
    }

    proptest! {
        #[test]
        fn any_answer_is_read(text in "(\\PC{0,20}\n){0,9}", fields in "(Received: by x|, from userid |[0-9]{0,12}|\\)|\n\tid |;|90E116CE1C6){0,9}") {
            let (_folder, paths) = paths();
            listed(&text);
            let _ = whose(&text, ID, "", &paths);
            let _ = whose(&message("", &fields), ID, "x", &paths);
        }
    }
}
