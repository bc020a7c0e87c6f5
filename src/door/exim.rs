//! Exim's door: `postern-exim auth|mail|send|outcome --name=value…`, called by `${run}` from an ACL, and the
//! same words on the keeper's socket ([`line`](mod@super::line)).
//!
//! Each value is one argument `--name=value`, so that a HELO or sender that begins with `-` is not an option.
//! The answer is one line on standard output; the exit status is 0 whatever the answer, since a status of
//! its own would be lost in a jail where the program is missing (127):
//!
//! | line | the snippet |
//! |---|---|
//! | `allow`, `undecided` | goes on |
//! | `open WHY` | goes on, with a line in Exim's log |
//! | `deny CODE TEXT` | refuses for good with this text |
//! | `defer CODE TEXT` | refuses for now with this text |
//! | `hold TEXT` | keeps a local message frozen in the queue |
//!
//! Where a keeper listens, this program hands it the question and prints its answer (`line::ask`). With
//! `--after-socket` among the values Exim has asked the keeper's socket before, in vain. Where the keeper
//! lives and is only late, it may yet count what Exim asked it: then nothing is counted here, and refusals that
//! need no record still hold.
//!
//! | verb | ACL | values |
//! |---|---|---|
//! | `auth` | `acl_smtp_auth` | address |
//! | `mail` | `acl_smtp_mail`, once for each login | address, account |
//! | `send` | `acl_smtp_data`, `acl_not_smtp` | from (data or local), address, account, caller, uid, recipients, id, to (the recipients, with commas; may be left out) |
//! | `outcome` | `acl_smtp_quit`, `acl_smtp_notquit`, the next AUTH | address, account, ended (succeeded or failed) |

use super::line::{self, Asked};
use crate::account::Account;
use crate::address::Address;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::flow;
use crate::hook::{self, CommandLine};
use crate::recipients;
use crate::record::client_text;
use crate::request::{Door, Ended, Login, MessageId, Outcome, Request, Send, Service};
use crate::trouble::{self, Trouble};
use crate::verdict::{Answer, Reason, Verdict};
use crate::wayout::{self, WayOut};
use std::ffi::{CStr, c_char, c_int};

const PROGRAM: &str = "postern-exim";

/// The program's `main`.
///
/// # Safety
/// `argv` must be what the C library hands to `main`.
pub unsafe fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: promised by the caller.
    let arguments = unsafe { hook::arguments(argc, argv) };
    hook::close_descriptors_from(3);
    hook::fill_descriptors_below(3);
    let line = run(&arguments);
    let _ = nix::unistd::write(std::io::stdout(), line.as_bytes());
    0
}

fn run(arguments: &[&CStr]) -> String {
    let way_out = || WayOut::Say(1, b"open way-out\n".to_vec(), 0);
    let command = match CommandLine::read(arguments) {
        Ok(command) => command,
        Err(error) => return format!("open {error}\n"),
    };
    let mut call = command.call_once(PROGRAM);
    wayout::register(&call, way_out());
    hook::drop_root(&call.paths);
    hook::have_fault(command.fault);
    let value: Value = &|name| command.value(name);
    let asked = match ask_keeper(&command, value) {
        Asked::Answered(line) => return line,
        in_vain => in_vain,
    };
    call.records = !(asked == Asked::Unanswered && hook::keeper_lives(&call.paths));
    let uid = nix::unistd::getuid().as_raw();
    match request(command.verb, value, uid) {
        Ok(request) => {
            let say = |answer: &Answer| WayOut::Say(1, spoken(&request, answer).into_bytes(), 0);
            let answer = flow::answer(&call, &request, &|answer| wayout::register(&call, say(answer)));
            spoken(&request, &answer)
        }
        Err(error) => {
            trouble::mark(&call, Trouble::Call, &error.to_string());
            format!("open {error}\n")
        }
    }
}

/// What the keeper says, where there is one: it has open what this program would have to open.
fn ask_keeper(command: &CommandLine, value: Value) -> Asked {
    if command.has("after-socket") {
        // Exim has asked it, and had no answer in time.
        return Asked::Unanswered;
    }
    match command.clock {
        Clock::System => line::ask(&command.paths, command.verb, value),
        // It has a clock of its own.
        _ => Asked::ToNobody,
    }
}

/// A value of what Exim asks, by name; empty where there is none.
pub(super) type Value<'a> = &'a dyn Fn(&str) -> String;

/// Reads what Exim asks. `mail_server` is the number of the user as which Exim runs.
pub(super) fn request(verb: &[u8], value: Value, mail_server: u32) -> Result<Request> {
    let address = match value("address") {
        empty if empty.is_empty() => None,
        text => Some(text.parse::<Address>()?),
    };
    let account = Account::from_server(&value("account"));
    let login = |door| Login { account: None, address, service: Service::Smtp, door };
    match verb {
        b"auth" => Ok(Request::Login(login(Door::EximAuth))),
        b"mail" => Ok(Request::Use(Login { account, ..login(Door::EximMail) })),
        b"send" => Ok(Request::Send(message(value, address, account, mail_server))),
        b"outcome" => Ok(Request::Outcome(Outcome {
            account,
            address,
            service: Service::Smtp,
            door: Door::EximOutcome,
            ended: ended(&value("ended"))?,
            guess: None,
        })),
        verb => {
            let accepted = "auth, mail, send or outcome";
            Err(Error::bad_value("The verb", &String::from_utf8_lossy(verb), accepted))
        }
    }
}

fn ended(word: &str) -> Result<Ended> {
    match word {
        "succeeded" => Ok(Ended::Succeeded),
        "failed" => Ok(Ended::Failed),
        other => Err(Error::bad_value("The value of ended", other, "succeeded or failed")),
    }
}

/// A message: of a network client where Exim names its address, else of a local program.
///
/// The mail server's own bounces come from its own user, which is the one that asks, with nobody logged in. An empty sender alone proves nothing: anybody may write one. Whom Exim trusts, it names
/// by no account where `-f` is used; then the caller's name stands, else its number.
fn message(value: Value, address: Option<Address>, account: Option<Account>, mail_server: u32) -> Send {
    let local = address.is_none();
    let uid = value("uid").parse().ok().filter(|_| local);
    let by_mail_server = account.is_none() && uid == Some(mail_server);
    let caller = || {
        let uid = uid.filter(|_| !by_mail_server)?;
        Account::from_server(&value("caller")).or_else(|| Account::from_server(&format!("uid-{uid}")))
    };
    let final_answer = value("from") == "local";
    Send {
        account: account.or_else(caller),
        address,
        by_mail_server,
        uid,
        recipients: value("recipients").parse().unwrap_or(1),
        named: recipients::named(&value("to")),
        message: MessageId::new(&value("id")).ok(),
        local: final_answer,
        door: if final_answer { Door::EximLocal } else { Door::EximData },
    }
}

/// The line for Exim.
pub(super) fn spoken(request: &Request, answer: &Answer) -> String {
    let text = client_text(answer);
    match answer.verdict {
        Verdict::Allow if answer.reason == Reason::NotCounted => line::NOT_COUNTED.into(),
        Verdict::Allow => "allow\n".into(),
        Verdict::Undecided => "undecided\n".into(),
        Verdict::Hold => format!("hold {text}\n"),
        Verdict::Refuse if is_final(request) => format!("deny 550 5.7.1 {text}\n"),
        Verdict::Refuse if answer.reason.is_temporary() => format!("defer 451 4.7.1 {text}\n"),
        Verdict::Refuse if matches!(request, Request::Login(_)) => format!("deny 535 5.7.8 {text}\n"),
        Verdict::Refuse => format!("deny 550 5.7.1 {text}\n"),
    }
}

fn is_final(request: &Request) -> bool {
    matches!(request, Request::Send(send) if send.local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&CStr]) -> Result<Request> {
        let command = CommandLine::read(arguments).unwrap();
        request(command.verb, &|name| command.value(name), nix::unistd::getuid().as_raw())
    }

    fn message_of(arguments: &[&CStr]) -> Send {
        match read(arguments).unwrap() {
            Request::Send(send) => send,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_login_asks_by_address_alone_and_its_use_by_account_too() {
        let Request::Login(login) = read(&[c"auth", c"--address=::ffff:192.0.2.1"]).unwrap() else {
            panic!()
        };
        assert_eq!((login.account, login.address), (None, "192.0.2.1".parse().ok()));
        let Request::Use(used) = read(&[c"mail", c"--address=2001:db8::1", c"--account=A@b.test"]).unwrap()
        else {
            panic!()
        };
        assert_eq!(used.account.unwrap().name(), "a@b.test");
    }

    #[test]
    fn a_local_message_is_the_logins_else_the_callers_else_the_numbers() {
        let named = message_of(&[c"send", c"--from=local", c"--address=", c"--account=web", c"--uid=994"]);
        assert_eq!((named.account.unwrap().name(), named.local), ("web", true));
        let nameless = message_of(&[c"send", c"--from=local", c"--address=", c"--account=", c"--uid=994"]);
        assert_eq!(nameless.account.unwrap().name(), "uid-994");
        let trusted =
            [c"send", c"--from=local", c"--address=", c"--account=", c"--caller=list", c"--uid=994"];
        assert_eq!(message_of(&trusted).account.unwrap().name(), "list");
    }

    #[test]
    fn only_the_mail_servers_own_user_with_nobody_logged_in_is_the_mail_server() {
        let own = format!("--uid={}\0", nix::unistd::getuid());
        let own = CStr::from_bytes_with_nul(own.as_bytes()).unwrap();
        let bounce = [c"send", c"--from=local", c"--address=", c"--account=", c"--caller=Debian-exim", own];
        assert_eq!((message_of(&bounce).by_mail_server, message_of(&bounce).account), (true, None));
        assert!(!message_of(&[c"send", c"--from=local", c"--address=", c"--account=x", own]).by_mail_server);
        assert!(!message_of(&[c"send", c"--address=192.0.2.1", c"--account=", own]).by_mail_server);
    }

    #[test]
    fn an_outcome_says_who_and_how_it_ended() {
        let outcome = read(&[c"outcome", c"--address=192.0.2.1", c"--account=a@b.test", c"--ended=failed"]);
        let Request::Outcome(outcome) = outcome.unwrap() else { panic!() };
        assert_eq!((outcome.ended, outcome.account.unwrap().name()), (Ended::Failed, "a@b.test"));
        assert!(read(&[c"outcome", c"--address=192.0.2.1", c"--ended=well"]).is_err());
    }

    #[test]
    fn what_is_not_understood_is_an_error_for_the_way_out() {
        assert!(read(&[c"auth", c"--address=nonsense"]).is_err());
        assert!(read(&[c"fly"]).is_err());
        assert!(read(&[]).is_err());
    }
}
