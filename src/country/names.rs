//! English names of countries as people type them.
//!
//! The standard's own names ("Korea (Republic of)", "Viet Nam") are not what an administrator types, so a
//! short table stands beside them. A name that fits several countries ("Korea", "Virgin Islands") fits none.

use super::Country;

/// Forms that neither the code nor the standard's name covers, as [`key`] folds them.
const SHORT_FORMS: &[(&str, &str)] = &[
    ("america", "US"),
    ("antigua", "AG"),
    ("bosnia", "BA"),
    ("bosniaherzegovina", "BA"),
    ("britain", "GB"),
    ("britishvirginislands", "VG"),
    ("brunei", "BN"),
    ("burma", "MM"),
    ("capeverde", "CV"),
    ("cocosislands", "CC"),
    ("congobrazzaville", "CG"),
    ("congokinshasa", "CD"),
    ("czechrepublic", "CZ"),
    ("democraticrepublicofcongo", "CD"),
    ("democraticrepublicofthecongo", "CD"),
    ("drc", "CD"),
    ("drcongo", "CD"),
    ("easttimor", "TL"),
    ("emirates", "AE"),
    ("england", "GB"),
    ("greatbritain", "GB"),
    ("holland", "NL"),
    ("hongkongsar", "HK"),
    ("ivorycoast", "CI"),
    ("laos", "LA"),
    ("macau", "MO"),
    ("macedonia", "MK"),
    ("northernireland", "GB"),
    ("northkorea", "KP"),
    ("pitcairnislands", "PN"),
    ("republicofcongo", "CG"),
    ("republicofkorea", "KR"),
    ("republicofthecongo", "CG"),
    ("russia", "RU"),
    ("sainthelena", "SH"),
    ("saintvincent", "VC"),
    ("saotome", "ST"),
    ("scotland", "GB"),
    ("slovakrepublic", "SK"),
    ("southkorea", "KR"),
    ("svalbard", "SJ"),
    ("swaziland", "SZ"),
    ("syria", "SY"),
    ("trinidad", "TT"),
    ("turkey", "TR"),
    ("uae", "AE"),
    ("uk", "GB"),
    ("unitedkingdom", "GB"),
    ("unitedstates", "US"),
    ("unitedstatesvirginislands", "VI"),
    ("usa", "US"),
    ("usvirginislands", "VI"),
    ("vatican", "VA"),
    ("vaticancity", "VA"),
    ("vietnam", "VN"),
    ("wales", "GB"),
];

/// The one country that the text names by code, name or short form.
pub(super) fn find(text: &str) -> Option<Country> {
    let wanted = key(text);
    if wanted.is_empty() {
        return None;
    }
    if let Some((_, code)) = SHORT_FORMS.iter().find(|(form, _)| *form == wanted) {
        return code.parse().ok();
    }
    if let Ok(country) = text.trim().parse::<Country>() {
        return country.name().map(|_| country);
    }
    by_name(&wanted)
}

/// The whole name first; else its part before the brackets ("Iran (Islamic Republic of)") where that fits
/// one country only.
fn by_name(wanted: &str) -> Option<Country> {
    let all = Country::all();
    if let Some((country, _)) = all.iter().find(|(_, name)| key(name) == wanted) {
        return Some(*country);
    }
    let before_brackets = |name: &str| name.split_once(" (").map(|(front, _)| key(front));
    let mut fitting = all.iter().filter(|(_, name)| before_brackets(name).as_deref() == Some(wanted));
    match (fitting.next(), fitting.next()) {
        (Some((country, _)), None) => Some(*country),
        _ => None,
    }
}

/// The text in the form in which names are compared: lower case, without accents, spaces, punctuation and a
/// leading "the"; "&" is "and", "St." is "Saint".
fn key(text: &str) -> String {
    let lower = text.trim().to_lowercase();
    let lower = lower.strip_prefix("the ").unwrap_or(&lower);
    let words = lower.split_whitespace().map(|word| match word {
        "&" => "and",
        "st" | "st." => "saint",
        other => other,
    });
    words.flat_map(str::chars).map(without_accent).filter(|c| c.is_alphanumeric()).collect()
}

/// Only the accents that occur in names of the standard.
fn without_accent(c: char) -> char {
    match c {
        'å' => 'a',
        'ç' => 'c',
        'é' => 'e',
        'ô' => 'o',
        'ü' => 'u',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_every_name_of_the_standard_finds_its_country() {
        for (country, name) in Country::all() {
            assert_eq!(find(country.as_str()), Some(country), "{country}");
            assert_eq!(find(&name.to_uppercase()), Some(country), "{name}");
        }
    }

    #[test]
    fn short_forms_are_folded_and_lead_to_assigned_codes() {
        for (form, code) in SHORT_FORMS {
            assert_eq!(key(form), *form);
            assert!(code.parse::<Country>().unwrap().name().is_some(), "{form}");
        }
    }

    #[test]
    fn names_are_found_as_people_type_them() {
        for (text, code) in [
            ("uk", "GB"),
            (" The Netherlands ", "NL"),
            ("Cote d'Ivoire", "CI"),
            ("south korea", "KR"),
            ("Iran", "IR"),
            ("Congo", "CG"),
            ("St. Lucia", "LC"),
            ("Trinidad & Tobago", "TT"),
            ("turkiye", "TR"),
            ("Kosovo", "XK"),
            ("xk", "XK"),
            ("Guinea-Bissau", "GW"),
            ("united states", "US"),
        ] {
            assert_eq!(find(text).map(|c| c.to_string()).as_deref(), Some(code), "{text}");
        }
    }

    #[test]
    fn a_name_that_fits_several_countries_or_none_finds_nothing() {
        for text in ["", "  ", "!!", "Korea", "Virgin Islands", "Atlantis", "ZZ", "Germ"] {
            assert_eq!(find(text), None, "{text:?}");
        }
    }
}
