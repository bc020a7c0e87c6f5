//! Feeds: lists of attacking networks that others publish.
//!
//! A [`Definition`] says where a list is, in which [`Format`], how often it is asked for and when it is too old. Some
//! are offered ([`offered`]), the administrator may define more; which are in use stands in the settings alone, which
//! only root writes. `postern tick` and `postern feeds update` fetch what is due, as user `postern` (`update`);
//! what a list says is checked (`check`) before it takes the place of the one from before. All lists in use are
//! compiled into one file, in which hooks look an address up ([`Feeds`]). That file carries each list's age, so
//! that a list that nobody renews stops refusing by itself.
//!
//! Attackers' addresses are in no file of this project.

mod check;
mod chosen;
mod compile;
mod definition;
mod formats;
mod kept;
mod lookup;
mod update;

pub use chosen::Chosen;
pub use definition::{Definition, Key, offered};
pub use formats::Format;
pub use kept::{Kept, standing};
pub use lookup::{Feeds, Listed};
pub use update::{Asked, Done, Job, tell, update, without_own};

/// How many feeds can be in use at once.
pub const MOST: usize = 64;
