//! What owners of accounts may do for themselves: off at first, within bounds, and the administrator hears of it.

use super::Admin;
use super::table::Scope;
use crate::address::Network;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::settings::Settings;
use crate::store::settings::entries::ListEntry;
use crate::store::settings::rank::Rank;
use crate::store::state::notices;

/// Shortest prefixes of networks that an owner may allow, of IPv4 and IPv6: about one provider's.
const WIDEST: (u8, u8) = (16, 32);

fn refused<T>(sentence: String) -> Result<T> {
    Err(Error::NotAllowed(sentence))
}

fn must_be_on(is_on: impl Fn(&Settings) -> bool, admin: &Admin, what: &str, key: &str) -> Result<()> {
    if admin.scope() != Scope::Owner || is_on(&admin.settings()?.settings()?) {
        return Ok(());
    }
    refused(format!("Owners cannot {what} here: the administrator has not switched {key} on."))
}

/// Whether the caller may give an allowance from there until then.
pub(super) fn may_allow(admin: &Admin, source: &str, until: Seconds) -> Result<()> {
    must_be_on(|s| s.owner_allowances, admin, "give temporary allowances", "owner_allowances")?;
    if admin.scope() != Scope::Owner {
        return Ok(());
    }
    let days = admin.settings()?.settings()?.owner_allowance_days;
    if until > admin.call.now + days * 86_400 {
        return refused(format!("An owner's allowance lasts {days} days at most: give an earlier end."));
    }
    let Ok(network) = source.parse::<Network>() else { return Ok(()) };
    let net = network.net();
    let widest = if net.max_prefix_len() == 32 { WIDEST.0 } else { WIDEST.1 };
    if net.prefix_len() >= widest {
        return Ok(());
    }
    refused(format!("{network} is too wide for an owner's allowance: /{widest} at most."))
}

/// Whether the caller may end this allowance. One that is not there or not his is the same to him.
pub(super) fn may_end(admin: &Admin, id: i64) -> Result<()> {
    must_be_on(|s| s.owner_allowances, admin, "end temporary allowances", "owner_allowances")?;
    let Some(theirs) = &admin.theirs else { return Ok(()) };
    match admin.settings()?.allowance(id)? {
        Some(grant) if theirs.owns_key(&grant.subject) => Ok(()),
        _ => refused(format!("Nothing was done: there is no allowance {id} for anything of {}.", theirs.who)),
    }
}

/// Whether the caller may lift the limiter's stops.
pub(super) fn may_release(admin: &Admin) -> Result<()> {
    must_be_on(|s| s.owner_release, admin, "release a stopped account", "owner_release")
}

/// Whether the caller may lift this block.
pub(super) fn may_lift(admin: &Admin, block: Option<&ListEntry>) -> Result<()> {
    let Some(block) = block else { return Ok(()) };
    let by = match (admin.scope(), Rank::of(&block.who)) {
        (Scope::Root, _) | (Scope::Reseller, Rank::Reseller | Rank::Owner) => return Ok(()),
        (_, Rank::Root) => "the administrator",
        _ => "the reseller",
    };
    refused(format!("Nothing was done: the block of {} was set by {by}, who alone releases it.", block.value))
}

/// Tells the administrator what an owner did for himself; of what others do he hears in the trail.
pub(super) fn tell(admin: &Admin, kind: &str, key: &str, what: &str) -> Result<()> {
    if admin.scope() != Scope::Owner {
        return Ok(());
    }
    let (now, detail) = (admin.call.now, format!("{} {what}", admin.who));
    on_state(&admin.call.paths, |state| state.write(|t| notices::queue(t, now, kind, key, &detail)))
}
