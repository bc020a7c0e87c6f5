//! `postern-dovecot failed`: a checkpassword passdb behind the real ones (Dovecot 2.3), which is reached by the
//! logins that those turned away. It tells how they ended and turns them away, too, whatever happens:
//!
//! | | password login | credentials lookup (`AUTHORIZED=1`) |
//! |---|---|---|
//! | exit | 1 | 3 |
//!
//! Seen with 2.3.19: these two leave the client's answer as it is without this stage, also for unknown names;
//! any other status makes it `[UNAVAILABLE]`, and none lets anybody in (`result_success = return-fail`).
//!
//! A lookup that ends here is no failed password: nobody has compared one. Dovecot compares CRAM-MD5 itself
//! after a lookup that succeeded, and asks nobody then. A lookup also fails where the account's password is
//! stored in a form that the mechanism has no use for, which is nobody's guess.

use super::{MOST_INPUT, PROGRAM, is_lookup, login, read_to_end, refusal, variable, wait_for_input};
use crate::account::Account;
use crate::flow;
use crate::guess;
use crate::hook::{self, CommandLine};
use crate::paths::Paths;
use crate::request::{Door, Ended, Login, Outcome, Request};
use crate::trouble::{self, Trouble};
use crate::wayout::{self, WayOut};
use nix::libc::c_int;

pub(super) fn failed(command: &CommandLine) -> c_int {
    let call = command.call(PROGRAM);
    wayout::register(&call, WayOut::Say(4, Vec::new(), refusal()));
    wait_for_input();
    hook::drop_root(&call.paths);
    hook::have_fault(command.fault);
    if !is_lookup() {
        match login(Door::DovecotFailed, variable) {
            Ok(Login { account, address, service, door }) => {
                let guess = tried(&call.paths, account.as_ref());
                let outcome = Outcome { account, address, service, door, ended: Ended::Failed, guess };
                let _ = flow::answer(&call, &Request::Outcome(outcome), &|_| {});
            }
            Err(error) => trouble::mark(&call, Trouble::Call, &error.to_string()),
        }
    }
    refusal()
}

/// What stands for the password that was tried.
fn tried(paths: &Paths, account: Option<&Account>) -> Option<u16> {
    let mut bytes = [0u8; MOST_INPUT];
    let length = read_to_end(3, &mut bytes).ok()?;
    let password = bytes[..length].split(|b| *b == 0).nth(1);
    let guess = password.and_then(|password| guess::of_password(paths, account?.name(), password));
    bytes.fill(0);
    std::hint::black_box(&bytes);
    guess
}
