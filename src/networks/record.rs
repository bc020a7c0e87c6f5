//! The form in which `networks.mmdb` stores an answer. One place, so that writer and reader cannot differ.

use serde::{Deserialize, Serialize};

/// `database_type` in the metadata. The same word stays as long as older readers can read the file.
pub(crate) const DATABASE_TYPE: &str = "Postern-Networks";

/// One stored answer. What is not known is left out. Keys that a reader does not know are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record<'a> {
    /// Two upper-case letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country: Option<&'a str>,
    /// Number of the autonomous system that announces the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asn: Option<u32>,
    /// Name of that system's owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    /// [`super::Tags`] as bits.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) tags: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands over a reference
fn is_zero(tags: &u32) -> bool {
    *tags == 0
}
