//! What a mail server asks, as types that only the doors build.

use crate::account::Account;
use crate::address::Address;
use crate::error::{Error, Result};
use std::fmt;

/// One question of a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// May this login go on?
    Login(Login),
    /// A login that succeeded is used to send: may it?
    Use(Login),
    /// May this message leave?
    Send(Send),
    /// How did a login end? There is nothing to answer.
    Outcome(Outcome),
}

/// A login, or the use of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who; none where the door cannot know it yet.
    pub account: Option<Account>,
    /// From where; none where the server names none (its own tools).
    pub address: Option<Address>,
    /// The service that is logged in to.
    pub service: Service,
    /// The door that asks.
    pub door: Door,
}

/// How a login ended, as a server tells it afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Who, or whom the client claimed to be.
    pub account: Option<Account>,
    /// From where; none where the server names none.
    pub address: Option<Address>,
    /// The service that was logged in to.
    pub service: Service,
    /// The door that tells.
    pub door: Door,
    /// How it ended.
    pub ended: Ended,
    /// Stands for the password that was tried, where the server tells: see [`Guess`](crate::guess).
    pub guess: Option<u16>,
}

/// The ways in which a login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The password was right.
    Succeeded,
    /// The password was wrong, or there is no such account.
    Failed,
    /// Somebody refused it whatever the password was: no failure, and no guess at a password.
    Refused,
}

/// A message that wants to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The proven sender: the login, or the local user. None: nobody proved who he is.
    pub account: Option<Account>,
    /// The client's address; none for a local submission.
    pub address: Option<Address>,
    /// The mail server's own user hands it in with nobody logged in: a bounce, a warning.
    pub by_mail_server: bool,
    /// The local user who hands it in, by number; none where a network client does.
    pub uid: Option<u32>,
    /// How many recipients it has.
    pub recipients: u32,
    /// Those of them whom the door names, as [`named`](crate::recipients::named) reads them.
    pub named: Vec<String>,
    /// The server's own name for the message.
    pub message: Option<MessageId>,
    /// Handed in by a program on this machine, so there is no client that could be told "later".
    pub local: bool,
    /// The door that asks.
    pub door: Door,
}

/// A mail service, as Dovecot and Exim name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// SMTP AUTH.
    Smtp,
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// ManageSieve.
    Sieve,
    /// A program on this machine hands a message in (sendmail).
    Local,
    /// Dovecot's own tools.
    Doveadm,
    /// Anything else.
    Other,
}

impl Service {
    /// The service of this name; unknown names are [`Service::Other`].
    pub fn named(name: &str) -> Service {
        match name {
            "smtp" | "submission" => Service::Smtp,
            "imap" => Service::Imap,
            "pop3" => Service::Pop3,
            "sieve" | "managesieve" => Service::Sieve,
            "local" => Service::Local,
            "doveadm" => Service::Doveadm,
            _ => Service::Other,
        }
    }

    /// The stable name in logs, lists and statistics.
    pub fn name(self) -> &'static str {
        match self {
            Service::Smtp => "smtp",
            Service::Imap => "imap",
            Service::Pop3 => "pop3",
            Service::Sieve => "sieve",
            Service::Local => "local",
            Service::Doveadm => "doveadm",
            Service::Other => "other",
        }
    }
}

/// The place in a mail server that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Exim's `acl_smtp_auth`: sees the address only.
    EximAuth,
    /// Exim's `acl_smtp_mail`: a login is used.
    EximMail,
    /// Exim's `acl_smtp_data`.
    EximData,
    /// Exim's `acl_not_smtp`: its answer is final.
    EximLocal,
    /// Dovecot's checkpassword passdb in front of the real ones.
    DovecotGate,
    /// Exim's `acl_smtp_quit`, `acl_smtp_notquit` and the next AUTH: how a login ended.
    EximOutcome,
    /// Dovecot's checkpassword passdb around another checkpassword program.
    DovecotChain,
    /// Dovecot's checkpassword passdb behind the real ones: the password was wrong.
    DovecotFailed,
    /// Dovecot's `auth_policy_server`: asked before the password, told afterwards.
    DovecotPolicy,
    /// Dovecot's post-login script: the password was right.
    DovecotPostlogin,
    /// Postfix, before AUTH: sees the address only.
    PostfixAuth,
    /// Postfix at MAIL or RCPT: a login is used.
    PostfixMail,
    /// Postfix at DATA or the end of the message.
    PostfixData,
    /// A local submission through Postfix.
    PostfixLocal,
    /// An administrator asks what would happen.
    Explain,
}

impl Door {
    /// The door of this name.
    pub fn named(name: &str) -> Option<Door> {
        Door::ALL.into_iter().find(|door| door.name() == name)
    }

    /// Every door that a mail server can ask at.
    pub const ALL: [Door; 14] = [
        Door::EximAuth,
        Door::EximMail,
        Door::EximData,
        Door::EximLocal,
        Door::EximOutcome,
        Door::DovecotGate,
        Door::DovecotChain,
        Door::DovecotFailed,
        Door::DovecotPolicy,
        Door::DovecotPostlogin,
        Door::PostfixAuth,
        Door::PostfixMail,
        Door::PostfixData,
        Door::PostfixLocal,
    ];

    /// The stable name in logs, lists and statistics.
    pub fn name(self) -> &'static str {
        match self {
            Door::EximAuth => "exim-auth",
            Door::EximMail => "exim-mail",
            Door::EximData => "exim-data",
            Door::EximLocal => "exim-local",
            Door::DovecotGate => "dovecot-gate",
            Door::EximOutcome => "exim-outcome",
            Door::DovecotChain => "dovecot-chain",
            Door::DovecotFailed => "dovecot-failed",
            Door::DovecotPolicy => "dovecot-policy",
            Door::DovecotPostlogin => "dovecot-postlogin",
            Door::PostfixAuth => "postfix-auth",
            Door::PostfixMail => "postfix-mail",
            Door::PostfixData => "postfix-data",
            Door::PostfixLocal => "postfix-local",
            Door::Explain => "explain",
        }
    }
}

/// A mail server's name for a message: Exim's letters, digits and two dashes, as in `1xW1Xt-0000gl-1R` (since
/// 4.97 longer: `1xW1Xt-00000000gl-1R0x`), or Postfix's letters and digits, as in `90E116CE1C6` (with
/// `enable_long_queue_ids` as in `4Wjk0X2bQzz1f9`). It becomes an argument of that server's programs later, so
/// nothing else is let in: no option, and not the `ALL` of postsuper(1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MessageId(String);

/// Postfix makes a name of at least five digits for the microsecond and one for the file.
const SHORTEST_POSTFIX: usize = 6;

/// Short names are hexadecimal, long ones have digits and consonants alone, so that they are no words.
fn is_shaped_by_postfix(text: &str) -> bool {
    let is_short = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    let is_long = |b: u8| b.is_ascii_alphanumeric() && !b"AEIOUaeiou".contains(&b);
    text.len() >= SHORTEST_POSTFIX && (text.bytes().all(is_short) || text.bytes().all(is_long))
}

impl MessageId {
    /// Takes the text if it has one of the shapes.
    pub fn new(text: &str) -> Result<MessageId> {
        let parts: Vec<&str> = text.split('-').collect();
        let is_part = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric());
        let of_exim = parts.len() == 3 && parts.iter().all(is_part);
        if text.len() <= 32 && (of_exim || is_shaped_by_postfix(text)) {
            Ok(MessageId(text.into()))
        } else {
            let accepted = "give the mail server's name for it, as 1xW1Xt-0000gl-1R or 90E116CE1C6";
            Err(Error::bad_value("The message", text, accepted))
        }
    }

    /// Whether Postfix gave it, and not Exim.
    pub fn is_of_postfix(&self) -> bool {
        !self.0.contains('-')
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_identification_is_taken_for_one() {
        for good in ["1xW1Xt-0000gl-1R", "1tPbCd-000000012Ab-3cDe"] {
            assert!(!MessageId::new(good).unwrap().is_of_postfix(), "{good}");
        }
        for good in ["90E116CE1C6", "4Wjk0X2bQzz1f9"] {
            assert!(MessageId::new(good).unwrap().is_of_postfix(), "{good}");
        }
        for bad in [
            "",
            "ALL",
            "all",
            "-",
            "-Mrm",
            "a-b",
            "90E116CE1C6/",
            "90E116CE1C6\n",
            "a-b-c d",
            "a--b",
            "../a-b-c",
            "a-b-c;rm",
            &"a-b-c".repeat(9),
        ] {
            assert!(MessageId::new(bad).is_err(), "{bad}");
        }
    }
}
