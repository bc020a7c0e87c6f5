//! Notices to the *Administration Email Address*, through the local sendmail, as user `postern`.
//!
//! The address comes from the published policy, never from the state. A notice is known as ours by its
//! sender's user number, so it is neither counted nor stopped. One that cannot be handed over waits for the
//! next minute.

use crate::call::Call;
use crate::child;
use crate::clock::readable;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::store::state::State;
use crate::store::state::notices::{self, Notice};
use crate::tick::Done;
use crate::trouble::{self, Trouble};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long sendmail may take for one notice. It only has to take it into its queue.
const SENDMAIL_MAY_TAKE: Duration = Duration::from_secs(30);

/// Hands every waiting notice to sendmail, up to the first that it does not take: all go to one address, and
/// those behind it wait for the next minute.
pub fn send_waiting(call: &Call) -> Result<Done> {
    let mut done = Done::default();
    let mut state = State::open(&call.paths)?;
    let waiting = state.read(notices::waiting)?;
    if waiting.is_empty() {
        return Ok(done);
    }
    let to = Policy::open(&call.paths.policy())?.ask()?.head()?.settings.administration_email_address.clone();
    for notice in waiting {
        let handed = hand_over(call, &to, &notice);
        let sent = handed.is_ok().then_some(call.now);
        state.write(|t| notices::mark(t, notice.id, sent))?;
        match handed {
            Ok(()) => done.told.push(format!("{to} was told about {}.", notice.account)),
            Err(error) => {
                trouble::mark(call, Trouble::Notice, &error.to_string());
                done.failed.push(error.to_string());
                break;
            }
        }
    }
    Ok(done)
}

fn hand_over(call: &Call, to: &str, notice: &Notice) -> Result<()> {
    let program = call.paths.root().join("usr/sbin/sendmail");
    let failed = || Error::system(format!("hand a notice for {to} to {}", program.display()));
    // From memory and not through a pipe, which a program that does not read would fill and hold us at.
    let message = child::in_memory(text(to, notice).as_bytes()).map_err(failed())?;
    let mut running = Command::new(&program)
        .args(["-oi", "-f", "<>", "--", to])
        .env_clear()
        .stdin(message)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed())?;
    match child::wait(&mut running, SENDMAIL_MAY_TAKE).map_err(failed())? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Error::State(format!(
            "{} did not take a notice for {to} ({status}); it is tried again.",
            program.display()
        ))),
        None => Err(Error::State(format!(
            "{} did not take a notice for {to} within {} seconds and was ended; it is tried again.",
            program.display(),
            SENDMAIL_MAY_TAKE.as_secs()
        ))),
    }
}

/// The message. Names from the state go through [`one_line`], so that none can add a header.
fn text(to: &str, notice: &Notice) -> String {
    let account = one_line(&notice.account);
    let word = shell_word(&account);
    let (subject, advice) = match notice.kind.as_str() {
        "stopped" => (
            format!("Postern stopped {account} from sending"),
            format!(
                "The account can still read its mail. Ask its owner whether the messages were meant.\nIf not, its password is probably known to somebody else: change it first, then release:\n\n    postern blocks release {word} --reason \"password changed\"\n\nIf it may send more than others:\n\n    postern whitelist add {word}\n"
            ),
        ),
        "owner_allowance" => (
            format!("Postern: an owner allowed logins of {account} from elsewhere"),
            "`postern allowances list` shows it, `postern allowances remove ID` ends it.\n".into(),
        ),
        "owner_release" => (
            format!("Postern: an owner released {account}"),
            format!("It can send again. To block it yourself:\n\n    postern blocks add {word}\n"),
        ),
        "slowed" => (
            format!("Postern slowed {account} down"),
            format!("A small quota an hour leaves, the rest waits. To let it send as before:\n\n    postern blocks release {word} --reason \"asked its owner\"\n"),
        ),
        "limit_waits" => (
            format!("Postern lets messages of {account} wait"),
            "What goes beyond the limit leaves when there is room again. `postern limits list` shows the limits, `postern limits for` gives somebody another number.\n".into(),
        ),
        "beyond_limit" => (
            format!("Postern saw {account} pass a limit"),
            "Nothing was refused. If that is no newsletter, its password may be known to somebody else. `postern limits list` shows the limits, `postern limits for` gives somebody another number.\n".into(),
        ),
        _ => (
            format!("Postern saw {account} send more than the limit"),
            "It was not stopped: it stands for many senders, or the limiter only watches.\n".into(),
        ),
    };
    format!(
        "To: {to}\nSubject: {subject}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n{account}, {}:\n\n{}\n\n{advice}",
        readable(notice.at),
        one_line(&notice.detail)
    )
}

fn one_line(text: &str) -> String {
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

    #[test]
    fn a_name_from_the_state_is_one_word_of_a_command() {
        assert_eq!(shell_word("alice+x@example.test"), "alice+x@example.test");
        assert_eq!(shell_word("a; rm -rf / #"), "'a; rm -rf / #'");
        assert_eq!(shell_word("a'$(id)"), r"'a'\''$(id)'");
    }

    #[test]
    fn a_name_from_the_state_cannot_add_a_header() {
        let notice = Notice {
            id: 1,
            at: 0,
            kind: "stopped".into(),
            account: "a\nBcc: thief@example.test\n".into(),
            detail: "x\n\ny".into(),
            tries: 0,
        };
        let text = text("root", &notice);
        let (headers, _) = text.split_once("\n\n").unwrap();
        assert_eq!(headers.lines().count(), 5);
        assert!(!headers.lines().any(|l| l.starts_with("Bcc")));
    }
}
