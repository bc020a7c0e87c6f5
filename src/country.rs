//! Countries by their two-letter code (ISO 3166-1 alpha-2).
//!
//! A [`Country`] is any two letters and promises no more: network data use codes that the standard leaves
//! free (`XK` for Kosovo) or only reserves (`EU`), and a look-up must not lose them. Whether a code is
//! assigned is what [`Country::name`] answers. Names are for administrators; rules compare codes only.

mod names;

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Two upper-case ASCII letters that stand for a country.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    /// Kosovo: not in ISO 3166-1, which leaves `XK` to its users; the common data files use it.
    pub const KOSOVO: Country = Country(*b"XK");

    /// The code, as `DE`.
    pub fn as_str(&self) -> &str {
        // Only ASCII letters ever get in, so the other arm is never taken; it keeps panics out of hooks.
        std::str::from_utf8(&self.0).unwrap_or("ZZ")
    }

    /// The English short name as ISO 3166-1 gives it; nothing for a code that is not assigned.
    pub fn name(&self) -> Option<&'static str> {
        if *self == Country::KOSOVO {
            return Some("Kosovo");
        }
        rust_iso3166::from_alpha2(self.as_str()).map(|entry| entry.name)
    }

    /// All assigned codes with their names, and Kosovo, in order of the codes.
    pub fn all() -> Vec<(Country, &'static str)> {
        let assigned = rust_iso3166::ALL.iter().filter_map(|e| Some((e.alpha2.parse().ok()?, e.name)));
        let mut all: Vec<_> = assigned.chain([(Country::KOSOVO, "Kosovo")]).collect();
        all.sort_unstable();
        all
    }

    /// Reads what an administrator types: an assigned code, an English name or a common short form
    /// (`UK`, `South Korea`, `Holland`), without regard to case, accents and punctuation.
    ///
    /// A code that is not assigned is refused here, because it is more often a slip than a wish.
    pub fn from_name_or_code(text: &str) -> Result<Country> {
        names::find(text).ok_or_else(|| {
            Error::bad_value(
                "The country",
                text,
                "give a two-letter code, as DE, or an English name, as Germany",
            )
        })
    }
}

impl FromStr for Country {
    type Err = Error;

    /// Reads two letters of either case.
    fn from_str(text: &str) -> Result<Self> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Country([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(Error::bad_value("The country code", text, "give two letters, as DE")),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Country {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Country {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_read_in_either_case_and_written_in_upper() {
        let country: Country = "dE".parse().unwrap();
        assert_eq!(country.to_string(), "DE");
        assert_eq!(country.name(), Some("Germany"));
        assert_eq!(serde_json::to_string(&country).unwrap(), "\"DE\"");
        assert_eq!(serde_json::from_str::<Country>("\"de\"").unwrap(), country);
    }

    #[test]
    fn text_that_is_no_code_is_refused_with_its_value() {
        for text in ["", "D", "DEU", "D1", "é", "--", " DE"] {
            let error = text.parse::<Country>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_code_that_nobody_assigned_has_no_name_but_is_kept() {
        let reserved: Country = "EU".parse().unwrap();
        assert_eq!((reserved.as_str(), reserved.name()), ("EU", None));
        assert!(Country::from_name_or_code("EU").is_err());
    }

    #[test]
    fn all_holds_every_assigned_code_once_and_kosovo() {
        let all = Country::all();
        assert_eq!(all.len(), 250);
        assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(all.contains(&(Country::KOSOVO, "Kosovo")));
        assert!(all.iter().all(|(country, name)| country.name() == Some(name)));
    }

    proptest! {
        #[test]
        fn any_text_is_two_letters_or_an_error(text in "\\PC{0,4}") {
            let letters = text.len() == 2 && text.chars().all(|c| c.is_ascii_alphabetic());
            match text.parse::<Country>() {
                Ok(country) => {
                    prop_assert!(letters);
                    prop_assert_eq!(country.as_str(), text.to_ascii_uppercase());
                    prop_assert_eq!(country.to_string().parse::<Country>().unwrap(), country);
                }
                Err(_) => prop_assert!(!letters),
            }
        }

        #[test]
        fn two_letters_are_always_a_code(text in "[A-Za-z]{2}") {
            prop_assert_eq!(text.parse::<Country>().unwrap().to_string(), text.to_ascii_uppercase());
        }

        #[test]
        fn any_text_is_a_known_country_or_an_error(text in "\\PC{0,40}") {
            if let Ok(country) = Country::from_name_or_code(&text) {
                prop_assert!(country.name().is_some());
            }
        }
    }
}
