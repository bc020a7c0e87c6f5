//! The table: what the administrator says, part by part, and who gets in then.

use crate::logins::End::{In, OutByAccount, OutByAddress};
use crate::logins::{AMERICAN, GERMAN, GERMAN_V6, JAPANESE, NOWHERE, Part};
use crate::rig::{ADMIN, ALICE, BOB, CAROL, DAVE, ERIN};

const BRAZILIAN: &str = "200.160.2.3";
const BRAZILIAN_V6: &str = "2001:12ff::1";
const NOT_ALLOWED: &str = "country_not_allowed";

const HOSTING: &str = "network_hosting";

pub(super) const PARTS: [Part; 7] = [
    Part {
        says: &[
            &["set_setting", "key=default_server_geoip", "value=DE"],
            &["set_countries", "countries=Germany,AT"],
            &["set_setting", "key=country_rule", "value=enforce"],
            &["add_ip_exemption", "value=200.160.2.77"],
            &["add_ip_exemption", "value=2001:12ff:7::/48"],
        ],
        clock: "+0",
        cases: &[
            ("allowed country", GERMAN, &ALICE, In),
            ("allowed country, IPv6", GERMAN_V6, &ALICE, In),
            ("allowed country, mapped", "::ffff:79.192.0.1", &ALICE, In),
            ("forbidden country", BRAZILIAN, &ALICE, OutByAddress("BR", NOT_ALLOWED)),
            ("forbidden country, IPv6", BRAZILIAN_V6, &ALICE, OutByAddress("BR", NOT_ALLOWED)),
            ("forbidden country, mapped", "::ffff:200.160.2.4", &ALICE, OutByAddress("BR", NOT_ALLOWED)),
            ("unknown country", NOWHERE, &ALICE, In),
            ("exempt address", "200.160.2.77", &ALICE, In),
            ("beside the exempt address", "200.160.2.78", &ALICE, OutByAddress("BR", NOT_ALLOWED)),
            ("exempt network, IPv6", "2001:12ff:7::9", &ALICE, In),
            ("beside the exempt network", "2001:12ff:8::9", &ALICE, OutByAddress("BR", NOT_ALLOWED)),
            ("loopback", "127.0.0.1", &ALICE, In),
            ("loopback, IPv6", "::1", &ALICE, In),
            ("private", "10.1.2.3", &ALICE, In),
        ],
    },
    Part {
        says: &[&["set_setting", "key=unknown_countries", "value=refuse"]],
        clock: "+0",
        cases: &[
            ("unknown country", NOWHERE, &BOB, OutByAddress("-", "unknown_country")),
            ("private", "10.1.2.3", &BOB, In),
            ("loopback", "127.0.0.1", &BOB, In),
        ],
    },
    Part {
        says: &[
            &["set_countries", "countries=JP", "for=erin@other.test"],
            &["set_countries", "countries=US", "for=other.test"],
            &["add_allowance", "for=carol@example.test", "from=United States of America", "until=7d"],
            &["add_allowance", "for=carol@example.test", "from=200.160.3.0/24", "until=7d"],
            &["add_allowance", "for=admin@example.test", "from=BR", "until=60s"],
        ],
        // The last allowance has ended, and no policy was published since.
        clock: "+61",
        cases: &[
            ("own list of the mailbox", JAPANESE, &ERIN, In),
            ("not on the mailbox's list", AMERICAN, &ERIN, OutByAccount("US", NOT_ALLOWED)),
            ("own list of the domain", AMERICAN, &DAVE, In),
            ("on the mailbox's list of another", JAPANESE, &DAVE, OutByAccount("JP", NOT_ALLOWED)),
            ("the server's list does not hold", GERMAN, &DAVE, OutByAccount("DE", NOT_ALLOWED)),
            ("allowance of a country", AMERICAN, &CAROL, In),
            ("allowance of a network", "200.160.3.9", &CAROL, In),
            ("beside the network", "200.160.4.9", &CAROL, OutByAddress("BR", NOT_ALLOWED)),
            ("the allowance of another", "200.160.3.10", &ALICE, OutByAccount("BR", NOT_ALLOWED)),
            ("an allowance that has ended", BRAZILIAN, &ADMIN, OutByAddress("BR", NOT_ALLOWED)),
        ],
    },
    Part {
        says: &[&["add_user_exemption", "value=bob@example.test"]],
        clock: "+61",
        cases: &[
            ("exempt mailbox", "200.160.2.5", &BOB, In),
            ("exempt mailbox, IPv6", "2001:12ff::5", &BOB, In),
            ("somebody is exempt, not this one", "200.160.2.5", &ALICE, OutByAccount("BR", NOT_ALLOWED)),
        ],
    },
    Part {
        says: &[
            &["remove_user_exemption", "value=bob@example.test"],
            &["add_user_exemption", "value=other.test"],
        ],
        clock: "+61",
        cases: &[
            ("exempt domain", "200.160.2.6", &DAVE, In),
            ("exempt domain, with an own list", "200.160.2.6", &ERIN, In),
            ("exempt no more", "200.160.2.6", &BOB, OutByAccount("BR", NOT_ALLOWED)),
        ],
    },
    Part {
        says: &[
            &["remove_user_exemption", "value=other.test"],
            &["set_setting", "key=source_rule", "value=enforce"],
            &["add_ip_exemption", "value=5.9.0.77"],
            &["add_cloud_network", "value=79.192.7.0/24"],
            &["add_cloud_network", "value=not:5.9.7.0/24"],
        ],
        clock: "+61",
        cases: &[
            ("nobody rents a machine there", GERMAN, &ALICE, In),
            ("cloud network", "5.9.0.1", &ALICE, OutByAddress("DE", HOSTING)),
            ("cloud network, mapped", "::ffff:5.9.0.2", &ALICE, OutByAddress("DE", HOSTING)),
            ("Tor", "185.220.101.1", &ALICE, OutByAddress("DE", "network_tor")),
            ("exempt address in a cloud network", "5.9.0.77", &ALICE, In),
            ("cloud mail client", "52.125.3.4", &ALICE, In),
            ("an allowance lifts the country rule alone", "3.208.0.1", &CAROL, OutByAddress("US", HOSTING)),
            ("the administrator's own cloud network", "79.192.7.1", &BOB, OutByAddress("DE", HOSTING)),
            ("taken out by the administrator", "5.9.7.1", &BOB, In),
        ],
    },
    Part {
        says: &[&["add_user_exemption", "value=bob@example.test"]],
        clock: "+61",
        cases: &[
            ("exempt mailbox in a cloud network", "5.9.0.3", &BOB, In),
            ("somebody is exempt, not this one", "5.9.0.3", &ALICE, OutByAccount("DE", HOSTING)),
        ],
    },
];
