//! The network data: country, owner and kind of the network that an address lies in.
//!
//! Hooks and keeper ask [`Networks`], one mapped file. `postern data build` compiles that file from sources
//! that the administrator chooses. No usable data is a missing fact, for which the rules abstain; an address
//! for which good data have no answer is of an unknown country. The two are never mixed up.

mod lookup;
mod record;
mod tags;

pub use lookup::{NetworkInfo, Networks};
pub use tags::{Tag, Tags};
