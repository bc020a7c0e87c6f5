//! Networks that we mark ourselves: lists in this project, reviewed as their heads say.

use super::ranges::{Range, disjoint, key_of};
use super::{Tag, Tags};
use crate::address::Network;
use crate::error::Result;

/// Mail services that log in for their users.
const CLOUD_MAIL_CLIENTS: &str = include_str!("cloud-mail-clients.txt");

/// Every marked network, as sorted disjoint ranges.
pub(crate) fn ranges() -> Result<Vec<Range<Tags>>> {
    let tags = Tags::NONE.with(Tag::CloudMailClient);
    let marked: Vec<Range<Tags>> =
        listed(CLOUD_MAIL_CLIENTS)?.into_iter().filter_map(|network| range(&network, tags)).collect();
    Ok(disjoint(marked).0)
}

/// The networks of a list: the first word of each line; `#` begins a comment.
fn listed(text: &str) -> Result<Vec<Network>> {
    let word =
        |line: &str| line.split('#').next().and_then(|l| l.split_whitespace().next()).map(str::to_owned);
    text.lines().filter_map(word).map(|word| word.parse()).collect()
}

fn range(network: &Network, tags: Tags) -> Option<Range<Tags>> {
    let net = network.net();
    Some(Range { first: key_of(net.network())?, last: key_of(net.broadcast())?, value: tags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::ranges::value_at;

    fn tags_of(address: &str) -> Tags {
        value_at(&ranges().unwrap(), key_of(address.parse().unwrap()).unwrap()).unwrap_or(Tags::NONE)
    }

    #[test]
    fn the_list_is_sound_and_marks_the_services_only() {
        assert!(tags_of("52.125.3.4").contains(Tag::CloudMailClient));
        assert!(tags_of("2a00:1450:4000::1").contains(Tag::CloudMailClient));
        for rented in ["52.95.255.255", "52.104.0.0", "20.50.2.1", "34.90.1.1", "2a01:111::1"] {
            assert_eq!(tags_of(rented), Tags::NONE, "{rented}");
        }
    }

    #[test]
    fn a_line_that_is_no_network_is_an_error() {
        assert!(listed("192.0.2.0/24 x\nnonsense").is_err());
        assert_eq!(listed("# only\n\n192.0.2.0/24 x # y").unwrap().len(), 1);
    }
}
