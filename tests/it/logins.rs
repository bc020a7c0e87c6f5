//! Logins at Exim's doors, and what the administrator sees of them.

use crate::sandbox::*;

const ALICE: &str = "alice@example.test";
const NO: &str = "deny 535 5.7.8 Logins from this country are not allowed here. Reference ";
const NO_USE: &str = "deny 550 5.7.1 Logins from this country are not allowed here. Reference ";

/// The reference at the end of a refusal.
#[track_caller]
fn reference(line: &str, begin: &str) -> String {
    let rest = line.strip_prefix(begin).unwrap_or_else(|| panic!("{line:?} instead of {begin:?}"));
    let reference = rest.strip_suffix(".\n").unwrap();
    assert!(reference.parse::<postern::verdict::Reference>().is_ok(), "{line:?}");
    reference.into()
}

#[test]
fn only_the_allowed_countries_log_in() {
    let sandbox = Sandbox::new().countries("DE");
    for address in [GERMAN, GERMAN_V6, "::ffff:192.0.2.7", "[2001:db8:de::1]"] {
        assert_eq!(sandbox.auth(address), "undecided\n", "{address}");
        assert_eq!(sandbox.mail(ALICE, address), "allow\n", "{address}");
    }
    for address in [AMERICAN, AMERICAN_V6, "::ffff:198.51.100.9"] {
        reference(&sandbox.auth(address), NO);
        reference(&sandbox.mail(ALICE, address), NO_USE);
    }
    for local in ["127.0.0.1", "::1", "10.1.2.3", "100.64.0.1", UNKNOWN, ""] {
        assert_eq!(sandbox.auth(local), "undecided\n", "{local}");
        assert_eq!(sandbox.mail(ALICE, local), "allow\n", "{local}");
    }
    assert_eq!(sandbox.log().iter().filter(|l| l.contains("event=trouble")).count(), 0);
}

#[test]
fn without_a_rule_everybody_logs_in() {
    let sandbox = Sandbox::new();
    for address in [GERMAN, AMERICAN, UNKNOWN] {
        assert_eq!(sandbox.auth(address), "undecided\n");
        assert_eq!(sandbox.mail(ALICE, address), "allow\n");
    }
}

#[test]
fn unknown_countries_are_refused_where_the_setting_says_so() {
    let sandbox = Sandbox::new().countries("DE").setting("unknown_countries", "refuse");
    reference(&sandbox.auth(UNKNOWN), NO);
    assert_eq!(sandbox.auth("10.1.2.3"), "undecided\n");
}

#[test]
fn a_refusal_is_found_by_its_reference_in_activity_and_log() {
    let sandbox = Sandbox::new().countries("DE");
    let told = reference(&sandbox.mail(ALICE, AMERICAN), NO_USE);
    let found = sandbox.api(&["list_activity", &format!("reference={told}")]);
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!((&found[0]["account"], &found[0]["address"]), (&ALICE.into(), &AMERICAN.into()));
    assert_eq!((&found[0]["country"], &found[0]["reason"]), (&"US".into(), &"country_not_allowed".into()));
    let log = sandbox.log();
    assert!(
        log.iter().any(|l| l.contains("event=refuse") && l.contains(&told) && l.contains(ALICE)),
        "{log:?}"
    );
    // The same again within the hour has the same reference.
    assert_eq!(reference(&sandbox.mail(ALICE, AMERICAN), NO_USE), told);
}

#[test]
fn monitor_lets_in_and_records_what_would_have_been_refused() {
    let sandbox = Sandbox::new().countries("DE").setting("country_rule", "monitor");
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    assert_eq!(sandbox.auth(AMERICAN), "undecided\n");
    let all = sandbox.api(&["list_activity"]);
    assert!(all.as_array().unwrap().iter().all(|row| row["verdict"] == "would_refuse"), "{all}");
    assert_eq!(sandbox.logged("event=would_refuse"), 0, "Dovecot's gate counts SMTP logins by default");
    let sandbox = sandbox.setting("smtp_logins_from", "exim");
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    assert_eq!(sandbox.logged("event=would_refuse"), 1);
}

#[test]
fn an_exempt_address_network_mailbox_or_domain_is_not_asked_for_its_country() {
    let sandbox = Sandbox::new().countries("DE").exempt_ip("198.51.100.8/31");
    assert_eq!(
        (sandbox.auth(AMERICAN), sandbox.mail(ALICE, AMERICAN)),
        ("undecided\n".into(), "allow\n".into())
    );
    reference(&sandbox.auth("198.51.100.10"), NO);
    let sandbox = Sandbox::new().countries("DE").exempt_user(ALICE).exempt_user("other.test");
    // One exempt mailbox anywhere leaves everybody to the door that knows the account.
    assert_eq!(sandbox.auth(AMERICAN), "undecided\n");
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    assert_eq!(sandbox.mail("Bob@Other.TEST", AMERICAN), "allow\n");
    reference(&sandbox.mail("bob@example.test", AMERICAN), NO_USE);
}

#[test]
fn a_mailbox_a_domain_and_an_allowance_open_more_countries() {
    let sandbox = Sandbox::new().countries("DE").countries_for(ALICE, "US").countries_for("other.test", "FR");
    assert_eq!(sandbox.auth(AMERICAN), "undecided\n");
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    reference(&sandbox.mail(ALICE, GERMAN), NO_USE);
    reference(&sandbox.mail("bob@example.test", AMERICAN), NO_USE);
    assert_eq!(sandbox.mail("carol@other.test", FRENCH), "allow\n");
    let sandbox = Sandbox::new().countries("DE").allowance(ALICE, "US", "1h");
    assert_eq!(sandbox.auth(AMERICAN), "undecided\n");
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    sandbox.wait(3599);
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    sandbox.wait(1);
    reference(&sandbox.mail(ALICE, AMERICAN), NO_USE);
    reference(&sandbox.auth(AMERICAN), NO);
}

#[test]
fn what_the_administrator_blocked_stays_out_and_loopback_stays_in() {
    let sandbox = Sandbox::new().blocked(ALICE).blocked("192.0.2.0/24");
    for address in [GERMAN, AMERICAN, "127.0.0.1", ""] {
        let said = sandbox.mail(ALICE, address);
        assert!(said.starts_with("deny 550 5.7.1 This account is closed"), "{said}");
    }
    let said = sandbox.auth(GERMAN);
    assert!(said.starts_with("deny 535 5.7.8 Logins from this address"), "{said}");
    assert_eq!(sandbox.mail("bob@example.test", AMERICAN), "allow\n");
    let answer = sandbox.postern(&["api", "add_block", "value=127.0.0.0/8"]).json();
    assert_eq!((&answer["status"], &answer["metadata"]["code"]), (&0.into(), &"bad_value".into()));
    sandbox.api(&["release_block", &format!("value={ALICE}"), "reason=a call"]);
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
}

#[test]
fn figures_tell_tried_refused_and_succeeded_apart() {
    let sandbox = Sandbox::new().countries("DE").setting("smtp_logins_from", "exim");
    for _ in 0..3 {
        sandbox.auth(GERMAN);
        sandbox.mail(ALICE, GERMAN);
    }
    sandbox.auth(AMERICAN);
    sandbox.postern(&["tick"]).succeeded();
    let rows = sandbox.api(&["country_statistics"]).to_string();
    let figure = |country: &str, name: &str| {
        let sql = format!(
            "SELECT coalesce(sum(n), 0) FROM traffic_hour WHERE direction = 'login' AND country = '{country}' AND verdict = '{name}'"
        );
        sandbox.in_state::<i64>(&sql)
    };
    let figures = |country| ["tried", "refused", "succeeded"].map(|name| figure(country, name));
    assert_eq!((figures("DE"), figures("US")), ([3, 0, 3], [1, 1, 0]), "{rows}");
}

#[test]
fn what_a_door_does_not_understand_lets_mail_go_on_and_is_told() {
    let sandbox = Sandbox::new().countries("DE");
    for words in [&["auth", "--address=nonsense"][..], &["fly"], &[]] {
        let said = sandbox.exim(&[], words);
        assert!(said.starts_with("open ") && said.ends_with('\n') && said.lines().count() == 1, "{said:?}");
    }
    sandbox.is_in_trouble("call");
    assert_eq!(sandbox.logged("event=trouble code=call"), 1);
}
