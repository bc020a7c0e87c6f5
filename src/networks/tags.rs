//! What is known of a network beside its country and owner.

use serde::{Serialize, Serializer};

/// One thing that can be said of a network. The numbers are stored in data files: a number is never given
/// a second meaning; new ones are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tag {
    /// Rented machines: data centres and clouds.
    Hosting = 0,
    /// Servers of a mail service that log in for its users, as Outlook's and Gmail's do.
    CloudMailClient = 1,
    /// Exits of a VPN service.
    Vpn = 2,
    /// Exits of the Tor network.
    Tor = 3,
    /// Exits of a private relay.
    Relay = 4,
    /// Named as attacking by a feed that the administrator uses.
    Feed = 5,
}

impl Tag {
    /// All tags, in the order of their numbers.
    pub const ALL: [Tag; 6] = [Tag::Hosting, Tag::CloudMailClient, Tag::Vpn, Tag::Tor, Tag::Relay, Tag::Feed];

    /// The tag with this key.
    pub fn named(key: &str) -> Option<Tag> {
        Tag::ALL.into_iter().find(|tag| tag.key() == key)
    }

    /// Stable key for JSON and settings.
    pub fn key(self) -> &'static str {
        match self {
            Tag::Hosting => "hosting",
            Tag::CloudMailClient => "cloud_mail_client",
            Tag::Vpn => "vpn",
            Tag::Tor => "tor",
            Tag::Relay => "relay",
            Tag::Feed => "feed",
        }
    }
}

/// A set of tags: bit *n* stands for the tag with number *n*, as data files store it.
///
/// Bits that this version does not know are kept and ignored, so newer data need no newer reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tags(u32);

impl Tags {
    /// No tag.
    pub const NONE: Tags = Tags(0);

    /// The set as it is stored.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The set from its stored form.
    pub fn from_bits(bits: u32) -> Self {
        Tags(bits)
    }

    /// This set with the tag in it.
    #[must_use]
    pub fn with(self, tag: Tag) -> Self {
        Tags(self.0 | 1 << tag as u8)
    }

    /// What is in this set or in the other.
    #[must_use]
    pub fn or(self, other: Tags) -> Self {
        Tags(self.0 | other.0)
    }

    /// Whether the tag is in the set.
    pub fn contains(self, tag: Tag) -> bool {
        self.0 & (1 << tag as u8) != 0
    }

    /// Whether nothing at all is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The tags that this version knows.
    pub fn iter(self) -> impl Iterator<Item = Tag> {
        Tag::ALL.into_iter().filter(move |tag| self.contains(*tag))
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        tags.into_iter().fold(Tags::NONE, Tags::with)
    }
}

impl Serialize for Tags {
    /// As a list of keys; the stored form is [`Tags::bits`].
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Tag::key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let tags: Tags = [Tag::Hosting, Tag::Tor].into_iter().collect();
        assert_eq!(tags.iter().collect::<Vec<_>>(), [Tag::Hosting, Tag::Tor]);
        assert_eq!(Tags::from_bits(tags.bits()), tags);
        assert_eq!(serde_json::to_string(&tags).unwrap(), r#"["hosting","tor"]"#);
    }

    #[test]
    fn the_stored_numbers_stay_as_they_are() {
        let bits: Vec<u32> = Tag::ALL.iter().map(|tag| Tags::NONE.with(*tag).bits()).collect();
        assert_eq!(bits, [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn a_bit_of_a_later_version_is_kept_and_names_nothing() {
        let tags = Tags::from_bits(1 << 20);
        assert_eq!((tags.iter().count(), tags.is_empty(), tags.bits()), (0, false, 1 << 20));
    }
}
