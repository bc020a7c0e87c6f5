//! Notices to the *Administration Email Address*, through the local sendmail, as user `postern`.
//!
//! The address comes from the published policy, never from the state. A notice is known as ours by its
//! sender's user number, so it is neither counted nor stopped. One that cannot be handed over waits for the
//! next minute.

use crate::call::Call;
use crate::clock::readable;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::store::state::State;
use crate::store::state::notices::{self, Notice};
use crate::trouble::{self, Trouble};
use std::io::Write;
use std::process::{Command, Stdio};

/// Hands every waiting notice to sendmail.
pub fn send_waiting(call: &Call) -> Result<Vec<String>> {
    let mut state = State::open(&call.paths)?;
    let waiting = notices::waiting(state.connection()).map_err(state.failed("read"))?;
    if waiting.is_empty() {
        return Ok(Vec::new());
    }
    let to = Policy::open(&call.paths.policy())?.ask()?.head()?.settings.administration_email_address;
    let mut told = Vec::new();
    for notice in waiting {
        let handed = hand_over(call, &to, &notice);
        let (failed, failed_too) = (state.failed("write to"), state.failed("write to"));
        let transaction = state.begin()?;
        notices::mark(&transaction, notice.id, handed.is_ok().then_some(call.now)).map_err(failed)?;
        transaction.commit().map_err(failed_too)?;
        match handed {
            Ok(()) => told.push(format!("{to} was told about {}.", notice.account)),
            Err(error) => {
                trouble::mark(call, Trouble::Notice, &error.to_string());
                told.push(error.to_string());
            }
        }
    }
    Ok(told)
}

fn hand_over(call: &Call, to: &str, notice: &Notice) -> Result<()> {
    let program = call.paths.root().join("usr/sbin/sendmail");
    let failed = || Error::system(format!("hand a notice for {to} to {}", program.display()));
    let mut child = Command::new(&program)
        .args(["-oi", "-f", "<>", "--", to])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed())?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text(to, notice).as_bytes()).map_err(failed())?;
    }
    let status = child.wait().map_err(failed())?;
    if status.success() {
        return Ok(());
    }
    Err(Error::State(format!(
        "{} did not take a notice for {to} ({status}); it is tried again.",
        program.display()
    )))
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
