//! Messages that are held: list, release, remove.
//!
//! The state says which messages were held; Exim or Postfix has them. A name that goes to their command line
//! comes from the caller, never from the state, and has the shape of a message identification. Messages also
//! leave the queue without us (`exim -Mrm`, `timeout_frozen_after`, `postsuper -H`), so the list is compared with
//! the queue where that may be read: mail servers show it to root and their admin users only.

use super::arguments::Arguments;
use super::{Admin, Outcome, first_found};
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::request::MessageId;
use crate::store::state::held::{self, Held};
use nix::unistd::geteuid;
use serde_json::json;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The programs by which Exim may be there.
pub(super) const EXIM: &[&str] = &["usr/sbin/exim4", "usr/sbin/exim", "usr/exim/bin/exim"];

/// Postfix's programs for its queue.
pub(super) const POSTSUPER: &[&str] = &["usr/sbin/postsuper"];
pub(super) const POSTQUEUE: &[&str] = &["usr/sbin/postqueue"];

/// A message is noted while Exim still takes it in; for so many seconds it need not be in the queue.
const ARRIVING: i64 = 600;

const GONE: &str = "The mail server no longer has it; it was taken off the list.";

/// The held messages, of one account where one is named.
pub fn list_held(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let rows = match given.given("account") {
        Some(_) => first_found(&admin.meant(given, "account")?, |account| rows_seen(admin, account.name()))?,
        None => rows_seen(admin, "")?,
    };
    if rows.is_empty() || !geteuid().is_root() {
        return Ok(json!(rows).into());
    }
    match queue(admin, &rows) {
        Ok(queue) => {
            let arrived = admin.call.now - ARRIVING;
            let (gone, living): (Vec<Held>, Vec<Held>) =
                rows.into_iter().partition(|row| row.at < arrived && !queue.contains(&row.message));
            let names: Vec<&str> = gone.iter().map(|row| row.message.as_str()).collect();
            forget(admin, &names)?;
            let n = names.len();
            let told = format!("The mail server no longer has {n} of them; they were taken off the list.");
            Ok(Outcome::from(json!(living)).warn(Some(told).filter(|_| n > 0)))
        }
        Err(error) => {
            let told = format!("It is not known which of them the mail server still has. {error}");
            Ok(Outcome::from(json!(rows)).warn(Some(told)))
        }
    }
}

/// The list as far as the caller may see it.
fn rows_seen(admin: &Admin, account: &str) -> Result<Vec<Held>> {
    on_state(&admin.call.paths, |state| {
        let mut rows = state.read(|db| held::list(db, account))?;
        rows.retain(|row| admin.may_see(&row.account));
        Ok(rows)
    })
}

/// Whoever is not the administrator names a message on the list that is of an account of his.
fn must_be_seen(admin: &Admin, message: &MessageId) -> Result<()> {
    let name = message.to_string();
    if admin.theirs.is_none() || rows_seen(admin, "")?.iter().any(|row| row.message == name) {
        return Ok(());
    }
    Err(Error::NotAllowed(format!("Nothing was done: {name} is no held message of {}.", admin.who)))
}

/// Lets a message leave.
pub fn release_held(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let message = MessageId::new(given.text("message"))?;
    must_be_seen(admin, &message)?;
    match thaw(admin, &message)? {
        Said::Done => {}
        said => return not_done(admin, &message, said),
    }
    let delivery = match message.is_of_postfix() {
        // It is in the deferred queue now, whose turn comes within minutes.
        true => run(admin, "Postfix", POSTQUEUE, &["-i", &message.to_string()]).map(|_| ()),
        false => exim(admin, "-M", &message).and_then(Said::into_result),
    };
    forget(admin, &[&message.to_string()])?;
    admin.note("release_held", &message.to_string(), "held", "released")?;
    Ok(Outcome::said(format!("Message {message} leaves.")).warn(delivery.err().map(|e| e.to_string())))
}

/// Takes the hold off.
fn thaw(admin: &Admin, message: &MessageId) -> Result<Said> {
    if message.is_of_postfix() {
        return postsuper(admin, "-H", message);
    }
    Ok(match exim(admin, "-Mt", message)? {
        // Somebody else thawed it already.
        Said::Other(text) if text.contains("is not frozen") => Said::Done,
        said => said,
    })
}

/// Deletes a message.
pub fn remove_held(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let message = MessageId::new(given.text("message"))?;
    must_be_seen(admin, &message)?;
    let said = match message.is_of_postfix() {
        true => postsuper(admin, "-d", &message)?,
        false => exim(admin, "-Mrm", &message)?,
    };
    match said {
        Said::Done => {}
        said => return not_done(admin, &message, said),
    }
    forget(admin, &[&message.to_string()])?;
    admin.note("remove_held", &message.to_string(), "held", "removed")?;
    Ok(Outcome::said(format!("Message {message} was removed.")))
}

/// A message that the mail server has lost is no longer held; any other answer is an error, and the list stays.
fn not_done(admin: &Admin, message: &MessageId, said: Said) -> Result<Outcome> {
    if said != Said::Gone {
        return said.into_result().map(|()| Outcome::default());
    }
    if forget(admin, &[&message.to_string()])? == 0 {
        return Err(Error::NotFound(format!(
            "Message {message} is not held, and the mail server does not have it."
        )));
    }
    admin.note("forget_held", &message.to_string(), "held", "gone")?;
    Ok(Outcome::said(GONE))
}

/// Takes messages off the list; gives how many were on it.
pub(super) fn forget(admin: &Admin, messages: &[&str]) -> Result<usize> {
    if messages.is_empty() {
        return Ok(0);
    }
    on_state(&admin.call.paths, |state| {
        state.write(|t| messages.iter().map(|message| held::forget(t, message)).sum())
    })
}

/// What a mail server made of a command about one message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Done,
    /// The message is not in the queue.
    Gone,
    /// Anything else, with its words.
    Other(String),
}

impl Said {
    /// Exim 4.96 and 4.98 end with status 1 and these words where they do not have the message; 4.96 does not
    /// know the longer names of 4.97, so it cannot have such a message either.
    pub(super) fn of_exim(message: &str, well: bool, text: &str) -> Said {
        if well {
            return Said::Done;
        }
        let gone = [
            format!("Spool data file for {message} does not exist"),
            format!("malformed message id {message}"),
        ];
        match gone.iter().any(|words| text.contains(words)) {
            true => Said::Gone,
            false => Said::Other(text.trim().chars().take(300).collect()),
        }
    }

    /// Postfix 3.7 and 3.10 end with status 0 whether they have the message or not, and say what they did.
    pub(super) fn of_postfix(message: &str, well: bool, text: &str) -> Said {
        let did = [": released from hold", ": placed on hold", ": removed"]
            .map(|what| format!("postsuper: {message}{what}"));
        match text.lines().any(|line| did.contains(&line.trim().to_owned())) {
            true => Said::Done,
            false if well => Said::Gone,
            false => Said::Other(text.trim().chars().take(300).collect()),
        }
    }

    fn into_result(self) -> Result<()> {
        match self {
            Said::Done => Ok(()),
            Said::Gone => Err(Error::NotFound("The mail server does not have the message.".into())),
            Said::Other(text) => Err(Error::NotFound(format!("The mail server did not do it ({text})."))),
        }
    }
}

fn exim(admin: &Admin, what: &str, message: &MessageId) -> Result<Said> {
    let name = message.to_string();
    run(admin, "Exim", EXIM, &[what, &name]).map(|output| {
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Said::of_exim(&name, output.status.success(), &text)
    })
}

/// Of the hold queue alone: a message that was let go meanwhile is on its way.
fn postsuper(admin: &Admin, what: &str, message: &MessageId) -> Result<Said> {
    let name = message.to_string();
    let output = run(admin, "Postfix", POSTSUPER, &[what, &name, "hold"])?;
    Ok(Said::of_postfix(&name, output.status.success(), &String::from_utf8_lossy(&output.stderr)))
}

/// The names of every message in the queues of the servers that these rows speak of.
fn queue(admin: &Admin, rows: &[Held]) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    let of_postfix = |row: &Held| MessageId::new(&row.message).is_ok_and(|message| message.is_of_postfix());
    if rows.iter().any(of_postfix) {
        names.extend(held_in(&listing(admin, "Postfix", POSTQUEUE, "-p")?));
    }
    if !rows.iter().all(of_postfix) {
        // -bpr is in every version and does not sort.
        names.extend(names_in(&listing(admin, "Exim", EXIM, "-bpr")?));
    }
    Ok(names)
}

fn listing(admin: &Admin, server: &str, programs: &[&str], option: &str) -> Result<String> {
    let output = run(admin, server, programs, &[option])?;
    if !output.status.success() {
        return Err(Error::State(format!("{server} did not show its queue ({}).", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Lines that begin a message are ` 25m  2.9K 0t5C6f-0000c8-00 <sender>`; more words than that are no harm.
fn names_in(listing: &str) -> HashSet<String> {
    listing.split_whitespace().filter(|w| MessageId::new(w).is_ok()).map(str::to_owned).collect()
}

/// Postfix marks what is on hold: `90E116CE1C6!     438 Wed Nov 25 06:57:03  sender`.
fn held_in(listing: &str) -> HashSet<String> {
    let first_words = listing.lines().filter_map(|line| line.split_whitespace().next());
    first_words.filter_map(|word| word.strip_suffix('!')).map(str::to_owned).collect()
}

/// The first of these programs that is there.
pub(super) fn program(admin: &Admin, programs: &[&str]) -> Option<PathBuf> {
    programs.iter().map(|p| admin.call.paths.root().join(p)).find(|p| p.exists())
}

fn run(admin: &Admin, server: &str, programs: &[&str], arguments: &[&str]) -> Result<Output> {
    let program = program(admin, programs).ok_or_else(|| {
        let places: Vec<String> = programs.iter().map(|p| format!("/{p}")).collect();
        Error::NotFound(format!("{server} was not found (looked for {}).", places.join(", ")))
    })?;
    let running = format!("run {} {}", program.display(), arguments.join(" "));
    Command::new(&program).args(arguments).output().map_err(Error::system(running))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str, code: i32, out: &str, err: &str) -> Said {
        Said::of_exim(message, code == 0, &format!("{out}{err}"))
    }

    /// As Postfix 3.7 and 3.10 were seen to answer.
    #[test]
    fn postfixs_words_for_a_message_that_it_has_or_has_not() {
        let said = |code: i32, err: &str| Said::of_postfix("90E116CE1C6", code == 0, err);
        let released =
            "postsuper: 90E116CE1C6: released from hold\npostsuper: Released from hold: 1 message\n";
        assert_eq!(said(0, released), Said::Done);
        assert_eq!(said(0, "postsuper: 90E116CE1C6: removed\npostsuper: Deleted: 1 message\n"), Said::Done);
        assert_eq!(
            said(0, "postsuper: 90E116CE1C6: placed on hold\npostsuper: Placed on hold: 1 message\n"),
            Said::Done
        );
        assert_eq!(said(0, ""), Said::Gone);
        assert_eq!(said(0, "postsuper: 90E116CE1C7: removed\n"), Said::Gone, "another one");
        let denied = "postsuper: fatal: use of this command is reserved for the superuser\n";
        assert!(matches!(said(1, denied), Said::Other(_)));
        let listing = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n\
                       90E116CE1C6!     438 Wed Nov 25 06:57:03  x!y@z.test\n                 wow!@remote.test\n\n\
                       90E116CE1C7*     438 Wed Nov 25 06:57:03  x@y.test\n\n-- 0 Kbytes in 2 Requests.\n";
        assert!(held_in(listing).contains("90E116CE1C6") && !held_in(listing).contains("90E116CE1C7"));
    }

    /// As Exim 4.96 and 4.98 were seen to answer.
    #[test]
    fn exims_words_for_a_message_that_it_does_not_have() {
        let (short, long) = ("1xW1Xt-0000gl-1R", "1tPbCd-000000012Ab-3cDe");
        let thaw = format!("Spool data file for {short} does not exist\n");
        let remove = format!(
            "{thaw}Continuing, to ensure all files removed\nSpool read error for {short}-H: No such file or directory\n\
             Continuing to ensure all files removed\nMessage {short} has been removed or did not exist\n"
        );
        assert_eq!(said(short, 1, &thaw, ""), Said::Gone);
        assert_eq!(said(short, 1, &remove, ""), Said::Gone);
        assert_eq!(
            said(long, 1, "", &format!("exim: malformed message id {long} after -Mt option\n")),
            Said::Gone
        );
        assert_eq!(said(short, 0, "Message 1xW1Xt-0000gl-1R is no longer frozen\n", ""), Said::Done);
        for other in [format!("Message {short} is locked\n"), "exim: permission denied; not admin".into()] {
            assert!(matches!(said(short, 1, &other, ""), Said::Other(_)), "{other}");
        }
    }

    #[test]
    fn the_queue_is_read_by_the_names_in_it() {
        let listing = " 0m   289 1xW3sF-000000005sq-0Rcy <root@a.test> *** frozen ***\n          root@a.test\n\n\
                       25m  2.9K 0t5C6f-0000c8-00 <a-b-c@x.test>\n        D x@y.test\n";
        let expected = ["1xW3sF-000000005sq-0Rcy", "0t5C6f-0000c8-00"].map(String::from);
        assert_eq!(names_in(listing), HashSet::from(expected));
    }
}
