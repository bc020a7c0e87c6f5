//! The bodies of Dovecot's policy requests: one JSON object.
//!
//! Where a chained server has attributes of its own, ours stand beside them in an object `postern`
//! (`auth_policy_request_attributes` has them as `postern/login` and so on; Dovecot 2.3 and 2.4 sort attributes by name
//! and make one object of neighbours that share what stands before the stroke, seen). Taken out again, what is left
//! are the bytes that Dovecot would have sent without us.

use crate::account::Account;
use crate::address::Address;
use crate::error::{Error, Result};
use crate::guess;
use crate::request::{Door, Ended, Login, Outcome, Service};
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The object in which our attributes stand beside those of a chained server.
const OURS: &str = "postern";

/// Values of `fail_type` (Dovecot 2.4), as they are written, that say nothing about the password.
const SAYS_NOTHING: [&str; 4] = [r#""policy""#, r#""internal""#, r#""expired""#, r#""disabled""#];

/// A body that was read.
pub(super) struct Body<'a> {
    all: Vec<(String, &'a RawValue)>,
    ours: Option<Vec<(String, &'a RawValue)>>,
}

impl<'a> Body<'a> {
    /// Reads a body.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Body<'a>> {
        let all = members(bytes)?;
        let ours = match find(&all, OURS) {
            Some(value) => Some(members(value.get().as_bytes())?),
            None => None,
        };
        Ok(Body { all, ours })
    }

    /// The login that is asked about.
    pub(super) fn login(&self) -> Result<Login> {
        let (account, address, service) = self.who()?;
        Ok(Login { account, address, service, door: Door::DovecotPolicy })
    }

    /// How a login ended.
    pub(super) fn outcome(&self) -> Result<Outcome> {
        let (account, address, service) = self.who()?;
        Ok(Outcome {
            account,
            address,
            service,
            door: Door::DovecotPolicy,
            ended: self.ended()?,
            guess: self.guess(),
        })
    }

    fn who(&self) -> Result<(Option<Account>, Option<Address>, Service)> {
        let address = match self.text("remote")? {
            // Dovecot's own tools come from nowhere.
            empty if empty.is_empty() => None,
            text => Some(text.parse()?),
        };
        Ok((Account::from_server(&self.text("login")?), address, Service::named(&self.text("protocol")?)))
    }

    /// Dovecot's hash of mailbox and password, which differs with each server's `auth_policy_hash_nonce`. It is cut
    /// (`auth_policy_hash_truncate`), so that it confirms no guess.
    fn guess(&self) -> Option<u16> {
        let value = find(self.attributes(), "pwhash").or_else(|| find(&self.all, "pwhash"))?;
        let hash: String = serde_json::from_str(value.get()).ok()?;
        Some(hash).filter(|hash| !hash.is_empty()).map(|hash| guess::of_hash(&hash))
    }

    /// A login that ended otherwise than by its password says nothing about it: it was refused by a policy, or the
    /// account is closed or expired, or the password could not be looked up (`fail_type`, Dovecot 2.4 only).
    fn ended(&self) -> Result<Ended> {
        if self.flag("success")? {
            return Ok(Ended::Succeeded);
        }
        let why = find(self.attributes(), "fail_type").or_else(|| find(&self.all, "fail_type"));
        let says_nothing = why.is_some_and(|why| SAYS_NOTHING.contains(&why.get()));
        Ok(if self.flag("policy_reject")? || says_nothing { Ended::Refused } else { Ended::Failed })
    }

    fn attributes(&self) -> &[(String, &'a RawValue)] {
        self.ours.as_deref().unwrap_or(&self.all)
    }

    fn text(&self, name: &str) -> Result<String> {
        let value = find(self.attributes(), name).ok_or_else(|| odd(name, ""))?;
        serde_json::from_str(value.get()).map_err(|_| odd(name, value.get()))
    }

    /// Dovecot adds these itself, beside all attributes.
    fn flag(&self, name: &str) -> Result<bool> {
        let value = find(&self.all, name).ok_or_else(|| odd(name, ""))?;
        serde_json::from_str(value.get()).map_err(|_| odd(name, value.get()))
    }
}

/// The body as Dovecot would have sent it without our attributes. One that cannot be read is left as it is.
pub(super) fn without_ours(body: &[u8]) -> Cow<'_, [u8]> {
    match place_of_ours(body) {
        Some((begin, end)) => Cow::Owned([&body[..begin], &body[end..]].concat()),
        None => Cow::Borrowed(body),
    }
}

/// From where to where our object stands, with its name and one comma.
fn place_of_ours(body: &[u8]) -> Option<(usize, usize)> {
    let all = members(body).ok()?;
    let value = find(&all, OURS)?.get();
    let begin = (value.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let end = begin + value.len();
    let name = format!("\"{OURS}\":");
    let begin = body[..begin].strip_suffix(name.as_bytes())?.len();
    match (body.get(end), body[..begin].last()) {
        (Some(b','), _) => Some((begin, end + 1)),
        (_, Some(b',')) => Some((begin - 1, end)),
        _ => Some((begin, end)),
    }
}

/// The last member of this name.
fn find<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    members.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
}

fn odd(name: &str, value: &str) -> Error {
    let accepted = "compare auth_policy_request_attributes with the snippet of this version";
    Error::bad_value(format!("The attribute {name} of a policy request"), value, accepted)
}

/// The members of an object, in their order, each value as it is written.
fn members(bytes: &[u8]) -> Result<Vec<(String, &RawValue)>> {
    let not_json =
        |why: &str| Error::bad_value("The body of a policy request", why, "one JSON object in UTF-8");
    let text = std::str::from_utf8(bytes).map_err(|e| not_json(&e.to_string()))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Members).and_then(|members| json.end().map(|()| members));
    members.map_err(|e| not_json(&e.to_string()))
}

struct Members;

impl<'a> Visitor<'a> for Members {
    type Value = Vec<(String, &'a RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
