//! What a feed is: its name, where it is, how it is read, how often, and for how long.

use super::{Format, MOST};
use crate::clock::{Seconds, seconds_in, short_span};
use crate::error::{Error, Result};
use crate::fetch;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The feeds that Postern offers.
const OFFERED: &str = include_str!("shipped.txt");

/// How often a feed of the administrator's own is asked, where he does not say; in seconds.
const EVERY: Seconds = 6 * 3600;

/// How old it may be, where he does not say; in seconds.
const AGE: Seconds = 7 * 86_400;

/// How often any list may be asked for at most; in seconds.
const OFTENEST: Seconds = 300;

/// How old any list may be at most; in seconds.
const OLDEST: Seconds = 365 * 86_400;

/// How a publisher that wants a key is told it. The key itself is no part of a definition: see
/// [`Paths::feed_key`](crate::paths::Paths::feed_key).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// In the place of `{key}` in the address.
    InUrl,
    /// In this header.
    Header(String),
}

/// A feed. Its text is one line: name, address, format, then what has a name, as
/// `example https://lists.example.org/bad.txt plain every=6h minimum=1h age=1w`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// What administrators call it: small letters, digits, `-`.
    pub name: String,
    /// Where it is: `https` only.
    pub url: String,
    /// How it is read.
    pub format: Format,
    /// How often it is asked for; in seconds.
    pub every: Seconds,
    /// How often it may be asked for at most, whoever asks; in seconds.
    pub minimum: Seconds,
    /// From which age on it refuses nobody; in seconds.
    pub age: Seconds,
    /// In the format `counted`: the least count that counts.
    pub least: u32,
    /// Whether its publisher wants a key, and where.
    pub key: Option<Key>,
    /// What it is, in a sentence; empty for the administrator's own.
    pub title: String,
    /// Under which terms it may be used; empty for the administrator's own.
    pub terms: String,
}

impl Definition {
    /// Whether the text is a feed's name.
    pub fn is_name(text: &str) -> bool {
        (1..=32).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }

    /// What decides which list it is and how it is read: a list that was fetched for another one is not used.
    pub(super) fn source(&self) -> String {
        format!("{} {} least={}", self.url, self.format, self.least)
    }
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Definition { name, url, format, every, minimum, age, least, key, .. } = self;
        let [every, minimum, age] = [every, minimum, age].map(|span| short_span(*span));
        write!(f, "{name} {url} {format} every={every} minimum={minimum} age={age}")?;
        if *format == Format::Counted {
            write!(f, " least={least}")?;
        }
        match key {
            Some(Key::Header(header)) => write!(f, " key={header}"),
            Some(Key::InUrl) | None => Ok(()),
        }
    }
}

impl FromStr for Definition {
    type Err = Error;

    /// Reads the line; refuses what could not be fetched or kept.
    fn from_str(text: &str) -> Result<Definition> {
        let bad = |what: &str, value: &str, accepted: &str| {
            Err(Error::bad_value(format!("The feed's {what}"), value, accepted))
        };
        let mut words = text.split_ascii_whitespace();
        let (Some(name), Some(url), Some(format)) = (words.next(), words.next(), words.next()) else {
            return bad("definition", text, "give name, address and format");
        };
        if !Definition::is_name(name) {
            return bad("name", name, "up to 32 small letters, digits and -");
        }
        if !is_https(url) {
            return bad("address", url, "give one that begins with https:// and a host's name");
        }
        let mut named: BTreeMap<&str, &str> = BTreeMap::new();
        for word in words {
            match word.split_once('=') {
                Some((key @ ("every" | "minimum" | "age" | "least" | "key"), value))
                    if !named.contains_key(key) =>
                {
                    named.insert(key, value);
                }
                _ => {
                    return bad(
                        "definition",
                        word,
                        "after the format give every=, minimum=, age=, least=, key=",
                    );
                }
            }
        }
        let span = |key: &str, default: Seconds, low: Seconds, high: Seconds| {
            let Some(text) = named.get(key) else { return Ok(default.clamp(low, high)) };
            seconds_in(text).filter(|s| (low..=high).contains(s)).ok_or_else(|| {
                let accepted = format!("from {} to {}, as 90m, 12h, 7d", short_span(low), short_span(high));
                Error::bad_value(format!("The feed's value {key}"), text, accepted)
            })
        };
        let every = span("every", EVERY, OFTENEST, OLDEST)?;
        let minimum = span("minimum", 3600, OFTENEST, every)?;
        // One that is asked for less often than it goes stale would refuse nobody half of the time.
        let age = span("age", AGE, every.saturating_mul(2).min(OLDEST), OLDEST)?;
        let format: Format = format.parse()?;
        let least = match named.get("least") {
            None => 1,
            Some(text) if format == Format::Counted => match text.parse() {
                Ok(least @ 1..=1_000_000) => least,
                _ => return bad("value least", text, "a whole number from 1 to 1000000"),
            },
            Some(text) => return bad("value least", text, "only with the format counted"),
        };
        let key = match (named.get("key"), url.contains(fetch::KEY)) {
            (None, false) => None,
            (None, true) => Some(Key::InUrl),
            (Some(header), false) if is_header(header) => Some(Key::Header((*header).to_owned())),
            (Some(header), _) => {
                return bad("value key", header, "the name of a header, where {key} is not in the address");
            }
        };
        Ok(Definition {
            name: name.into(),
            url: url.into(),
            format,
            every,
            minimum,
            age,
            least,
            key,
            title: String::new(),
            terms: String::new(),
        })
    }
}

/// Whether the address can be asked: encrypted, with a host, without a name and password of somebody in it.
fn is_https(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b);
    url.len() <= 500
        && !host.is_empty()
        && host.bytes().all(plain)
        && url.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\<>`".contains(&b))
}

/// Headers that would change what is asked are none for a key.
fn is_header(text: &str) -> bool {
    const OURS: [&str; 7] = [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "if-none-match",
        "if-modified-since",
        "accept",
    ];
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !OURS.contains(&text.to_ascii_lowercase().as_str())
}

/// The feeds that Postern offers, in their order.
pub fn offered() -> Result<Vec<Definition>> {
    read_offered(OFFERED)
}

fn read_offered(text: &str) -> Result<Vec<Definition>> {
    let mut all: Vec<Definition> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let wrong =
            || Error::Data(format!("Line {number} of the list of feeds is not understood: {line:?}."));
        let set_in = line.starts_with(' ');
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !set_in {
            all.push(line.parse()?);
            continue;
        }
        let last = all.last_mut().ok_or_else(wrong)?;
        match line.split_once(": ") {
            Some(("title", title)) => last.title = title.into(),
            Some(("terms", terms)) => last.terms = terms.into(),
            _ => return Err(wrong()),
        }
    }
    Ok(all)
}

/// What these names stand for, of what is offered and of the administrator's own definitions. A name without a
/// definition is left out, and so are more than [`MOST`]. What is offered goes before what has the same name.
pub(super) fn in_use<T: AsRef<str>>(names: &[T], own: &[T]) -> Result<Vec<Definition>> {
    let mut known = offered()?;
    known.extend(own.iter().filter_map(|text| text.as_ref().parse::<Definition>().ok()));
    let of_name = |name: &T| known.iter().find(|d| d.name == name.as_ref()).cloned();
    Ok(names.iter().filter_map(of_name).take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_offered_says_where_it_is_from_and_under_which_terms() {
        let offered = offered().unwrap();
        let names: Vec<&str> = offered.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["spamhaus-drop", "spamhaus-drop-v6", "blocklist-de-mail"]);
        for feed in &offered {
            assert!(!feed.title.is_empty() && !feed.terms.is_empty(), "{feed:?}");
            assert!(feed.minimum >= 1800 && feed.age >= 2 * feed.every && feed.key.is_none(), "{feed:?}");
        }
        let by_spamhaus = offered.iter().filter(|d| d.url.contains("spamhaus"));
        assert!(by_spamhaus.clone().count() == 2 && by_spamhaus.clone().all(|d| d.minimum >= 3600));
    }

    #[test]
    fn a_definition_is_read_from_a_line_and_written_back_whole() {
        let text =
            "own https://lists.example.org:8443/a?b=c counted every=1d minimum=2h age=4d least=3 key=X-Key";
        let own: Definition = text.parse().unwrap();
        assert_eq!((own.every, own.minimum, own.age, own.least), (86_400, 7200, 345_600, 3));
        assert_eq!(own.key, Some(Key::Header("X-Key".into())));
        assert_eq!(own.to_string().parse::<Definition>().unwrap(), own);
        let short: Definition = "own https://example.org/{key}.txt plain".parse().unwrap();
        assert_eq!((short.every, short.minimum, short.age), (EVERY, 3600, AGE));
        assert_eq!(short.key, Some(Key::InUrl));
        let often: Definition = "own https://example.org/ plain every=10m".parse().unwrap();
        assert_eq!((often.minimum, often.age), (600, AGE));
    }

    #[test]
    fn what_cannot_be_a_feed_is_refused_with_what_would_be_accepted() {
        for bad in [
            "",
            "own",
            "own https://example.org/",
            "Own https://example.org/ plain",
            "own http://example.org/ plain",
            "own ftp://example.org/ plain",
            "own https:///list plain",
            "own https://ann:secret@example.org/ plain",
            "own https://example.org/ table",
            "own https://example.org/ plain every=1s",
            "own https://example.org/ plain every=1d every=2d",
            "own https://example.org/ plain every=1d minimum=2d",
            "own https://example.org/ plain every=1d age=1d",
            "own https://example.org/ plain age=400d",
            "own https://example.org/ plain least=3",
            "own https://example.org/ counted least=0",
            "own https://example.org/ plain key=Host",
            "own https://example.org/{key} plain key=X-Key",
            "own https://example.org/ plain colour=red",
        ] {
            let error = bad.parse::<Definition>().unwrap_err();
            assert_eq!(error.code(), "bad_value", "{bad}: {error}");
        }
    }

    #[test]
    fn names_are_looked_up_and_the_offered_one_goes_before_one_of_the_same_name() {
        let own = ["mine https://example.org/ plain", "spamhaus-drop https://example.org/ plain", "nonsense"];
        let found = in_use(&["mine", "spamhaus-drop", "gone"], &own).unwrap();
        let urls: Vec<&str> = found.iter().map(|d| d.url.as_str()).collect();
        assert_eq!(urls, ["https://example.org/", "https://www.spamhaus.org/drop/drop_v4.json"]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_definition_that_reads_back_or_an_error(
            text in "(own|[ -~]{0,9}) (https://[a-z.]{1,9}/[ -~]{0,9}|\\PC{0,20}) (plain|counted|drop-json|\\PC{0,9})( (every|age|minimum|least|key)=[0-9a-zA-Z]{0,5}){0,3}"
        ) {
            if let Ok(found) = text.parse::<Definition>() {
                prop_assert_eq!(found.to_string().parse::<Definition>().unwrap(), found);
            }
        }
    }
}
