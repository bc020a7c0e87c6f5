//! Numbers of autonomous systems, as administrators write them.

use crate::error::Error;
use std::fmt;
use std::str::FromStr;

/// The number of an autonomous system (RFC 6793): a network that announces its addresses to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asn(pub u32);

impl FromStr for Asn {
    type Err = Error;

    /// Reads `AS64500`, in small letters too. 0 is nobody's (RFC 7607). A bare number is refused: it says as little as
    /// a number can.
    fn from_str(text: &str) -> Result<Asn, Error> {
        let text = text.trim();
        let digits = match text.get(..2) {
            Some(prefix) if prefix.eq_ignore_ascii_case("as") => &text[2..],
            _ => "",
        };
        let number = digits.parse().ok().filter(|n| *n != 0 && digits.bytes().all(|b| b.is_ascii_digit()));
        let accepted = "give AS and the number, as AS64500";
        number.map(Asn).ok_or_else(|| Error::bad_value("The autonomous system", text, accepted))
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_system_is_written_with_as() {
        assert_eq!(" as64500 ".parse::<Asn>().unwrap(), Asn(64_500));
        for bad in ["", "AS", "64500", "AS0", "AS-1", "AS+1", "AS4294967296", "AS 1", "ASx", "ä1"] {
            assert!(bad.parse::<Asn>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_system_or_an_error(text in "\\PC*|[aA][sS][0-9]{0,12}") {
            if let Ok(asn) = text.parse::<Asn>() {
                prop_assert_eq!(asn.to_string().parse::<Asn>().unwrap(), asn);
            }
        }
    }
}
