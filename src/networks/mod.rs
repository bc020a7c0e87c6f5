//! The network data: country, owner and kind of the network that an address lies in.
//!
//! Hooks and keeper ask [`Networks`], one mapped file. `postern data build` compiles that file from sources
//! that the administrator chooses. No usable data is a missing fact, for which the rules abstain; an address
//! for which good data have no answer is of an unknown country. The two are never mixed up.

mod compile;
mod coverage;
mod lookup;
mod marked;
pub(crate) mod ranges;
mod record;
mod report;
mod sources;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use compile::compile;
pub use coverage::{Coverage, Provider, coverage};
pub(crate) use lookup::map_file;
pub use lookup::{NetworkInfo, Networks};
pub use marked::{Listed, Place, cloud_mail_clients, hosting};
pub use report::{AsnReport, CountryReport, Report};
pub use sources::Sources;
pub use tags::{Tag, Tags};

/// Country data older than this many days are warned of: address blocks change hands all the time.
pub const STALE_AFTER_DAYS: i64 = 45;
