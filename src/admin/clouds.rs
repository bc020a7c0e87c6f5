//! Cloud networks and cloud mail clients: what Postern brings, and what the administrator says himself.
//!
//! Each is two lists in the settings, one of what it is and one of what it is not; people write the second one's
//! values with `not:` before them. They hold from the next login on: the network data need not be built anew.

use super::arguments::Arguments;
use super::{Admin, Outcome, lists};
use crate::error::Result;
use crate::networks::{self, Listed, Place};
use crate::store::settings::entries::{ListName, NOT};
use serde_json::{Value, json};

/// The lists of cloud networks.
pub const NETWORKS: [ListName; 2] = [ListName::CloudNetwork, ListName::NoCloudNetwork];
/// The lists of cloud mail clients.
pub const CLIENTS: [ListName; 2] = [ListName::CloudMailClient, ListName::NoCloudMailClient];

/// Which of the two a value belongs to.
pub fn list_for([list, not]: &[ListName; 2], value: &str) -> ListName {
    if value.trim().starts_with(NOT) { *not } else { *list }
}

/// Cloud networks: the administrator's own, and with `all` what Postern brings.
pub fn list_networks(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    both(admin, given, &NETWORKS, networks::hosting)
}

/// Cloud mail clients: the administrator's own, and with `all` what Postern brings.
pub fn list_clients(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    both(admin, given, &CLIENTS, networks::cloud_mail_clients)
}

fn both(
    admin: &Admin,
    given: &Arguments,
    lists: &[ListName; 2],
    brought: fn() -> Result<Vec<Listed>>,
) -> Result<Outcome> {
    let (store, mut rows) = (admin.settings()?, Vec::new());
    for list in lists {
        rows.extend(store.entries(*list)?.iter().map(|entry| {
            json!({
                "value": list.typed(&entry.value),
                "what": "",
                "note": entry.note,
                "who": entry.who,
                "at": entry.at,
                "until": entry.until,
            })
        }));
    }
    if given.is_on("all")? {
        rows.extend(brought()?.iter().map(brought_row));
    }
    Ok(json!(rows).into())
}

fn brought_row(listed: &Listed) -> Value {
    let place = match listed.place {
        Place::System(asn) => asn.to_string(),
        Place::Network(network) => network.to_string(),
    };
    let tags: Vec<&str> = listed.tags.iter().map(|tag| tag.key()).collect();
    json!({
        "value": place,
        "what": tags.join(" "),
        "note": listed.name,
        "who": "Postern",
        "at": null,
        "until": null,
    })
}

/// Adds many at once.
pub fn import(admin: &Admin, given: &Arguments, lists: &'static [ListName; 2]) -> Result<Outcome> {
    lists::import_into(admin, given, lists::fields(lists[0]), &|value| list_for(lists, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_before_a_value_leads_to_the_list_of_what_it_is_not_and_is_written_back() {
        for (lists, value) in
            [(&NETWORKS, "AS64500"), (&NETWORKS, "192.0.2.0/24"), (&CLIENTS, "2001:db8::/32")]
        {
            for text in [value.to_owned(), format!("not:{value}"), format!(" not: {value} ")] {
                let list = list_for(lists, &text);
                assert_eq!(list, lists[usize::from(text.contains("not"))]);
                let kept = list.checked(&text).unwrap();
                assert_eq!(kept, value);
                let typed = list.typed(&kept);
                assert_eq!((list_for(lists, &typed), list.checked(&typed).unwrap()), (list, kept));
            }
        }
        assert!(ListName::CloudMailClient.checked("AS64500").is_err());
        assert!(ListName::CloudNetwork.checked("alice@example.test").is_err());
    }
}
