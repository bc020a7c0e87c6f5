//! `postern-dovecot postlogin SERVICE NEXT…`: Dovecot's post-login script for IMAP and POP3 (2.3 and 2.4), which
//! is run between a right password and the session.
//!
//! `script-login` starts it with the client's connection as descriptors 0 and 1, its own as 3, the account in
//! `USER` and the client's address in `IP`; the service it does not tell, so the snippet names it. To let the
//! session begin, the program becomes the next one, with environment and descriptors as they came. To refuse, it
//! says so to the client and ends: Dovecot then closes the connection.
//!
//! A right password is proven here, so whoever is let go on is told as a success, too.

use super::{PROGRAM, TROUBLE, variable};
use crate::account::Account;
use crate::call::Call;
use crate::error::Result;
use crate::flow;
use crate::hook::{self, CommandLine};
use crate::record::client_text;
use crate::request::{Door, Ended, Login, Outcome, Request, Service};
use crate::trouble::{self, Trouble};
use crate::verdict::{Answer, Verdict};
use crate::wayout::{self, WayOut};
use nix::libc::c_int;
use std::ffi::{CStr, CString};

pub(super) fn postlogin(command: &CommandLine) -> c_int {
    let call = command.call(PROGRAM);
    let (service, next) = words(&command.rest);
    if next.is_empty() {
        trouble::mark(&call, Trouble::Call, "postlogin needs the service and the next program");
        return TROUBLE;
    }
    wayout::register(&call, WayOut::Become(next));
    hook::open_files_as_owner(&call.paths);
    hook::have_fault(command.fault);
    if let Some(farewell) = asked(&call, service) {
        let _ = nix::unistd::write(std::io::stdout(), farewell.as_bytes());
        // Another status would be one more error in Dovecot's log.
        return 0;
    }
    let error = wayout::become_registered();
    let told = format!("the next program after the login could not be started: {error}");
    trouble::mark(&call, Trouble::Call, &told);
    TROUBLE
}

/// The service and the next program. Where the service was left out, everything is the next program.
fn words(rest: &[&CStr]) -> (Service, Vec<CString>) {
    let owned = |words: &[&CStr]| words.iter().map(|word| (*word).to_owned()).collect();
    match rest {
        [name, next @ ..] if !name.to_bytes().starts_with(b"/") => {
            (Service::named(&name.to_string_lossy()), owned(next))
        }
        next => (Service::Other, owned(next)),
    }
}

/// Asks; what the client is told where he is refused.
fn asked(call: &Call, service: Service) -> Option<String> {
    let login = match login(service, variable) {
        Ok(login) => login,
        Err(error) => {
            trouble::mark(call, Trouble::Call, &error.to_string());
            return None;
        }
    };
    let refused = |answer: &Answer| {
        wayout::register(call, WayOut::Say(1, farewell(service, answer).into_bytes(), 0));
    };
    let answer = flow::answer(call, &Request::Login(login.clone()), &refused);
    if answer.verdict == Verdict::Refuse {
        return Some(farewell(service, &answer));
    }
    let Login { account, address, service, door } = login;
    let outcome = Outcome { account, address, service, door, ended: Ended::Succeeded, guess: None };
    let _ = flow::answer(call, &Request::Outcome(outcome), &|_| {});
    None
}

fn login(service: Service, variable: impl Fn(&str) -> String) -> Result<Login> {
    let address = match variable("IP") {
        empty if empty.is_empty() => None,
        text => Some(text.parse()?),
    };
    let account = Account::from_server(&variable("USER"));
    Ok(Login { account, address, service, door: Door::DovecotPostlogin })
}

/// The client waits for the answer to his login. IMAP: RFC 3501 §7.1.5; POP3: RFC 3206, which keeps a client
/// from asking for another password; ManageSieve: RFC 5804 §1.2.
fn farewell(service: Service, answer: &Answer) -> String {
    let text = client_text(answer);
    match service {
        Service::Imap => format!("* BYE [ALERT] {text}\r\n"),
        Service::Pop3 => format!("-ERR [SYS/PERM] {text}\r\n"),
        Service::Sieve => format!("BYE \"{text}\"\r\n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> Result<Login> {
        login(Service::Imap, |name| {
            pairs.iter().find(|(n, _)| *n == name).map_or_else(String::new, |(_, v)| (*v).into())
        })
    }

    #[test]
    fn account_and_address_come_from_the_environment() {
        let login = asked(&[("USER", "Alice@Example.test"), ("IP", "::ffff:192.0.2.1")]).unwrap();
        assert_eq!(login.account.unwrap().name(), "alice@example.test");
        assert_eq!(login.address, "192.0.2.1".parse().ok());
        assert_eq!(asked(&[("USER", "alice")]).unwrap().address, None);
        assert!(asked(&[("IP", "x")]).is_err());
    }

    #[test]
    fn the_next_program_is_found_also_where_the_service_was_left_out() {
        let (service, next) = words(&[c"pop3", c"/lib/script-login", c"x"]);
        assert_eq!((service, next), (Service::Pop3, vec![c"/lib/script-login".into(), c"x".into()]));
        let (service, next) = words(&[c"/lib/script-login"]);
        assert_eq!((service, next), (Service::Other, vec![c"/lib/script-login".into()]));
        assert_eq!(words(&[c"imap"]).1, Vec::<CString>::new());
    }
}
