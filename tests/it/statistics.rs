//! Statistics, suggestions, dry runs and stories of the built program. Every figure is computed by hand.

use crate::sandbox::*;
use serde_json::{Value, json};
use std::fs;

const ALICE: &str = "alice@example.test";
const DAY: i64 = 86_400;

/// What the doors would have written in the last days, folded: days ago, how often, and the rest of the line.
fn told(sandbox: &Sandbox, lines: &[(i64, usize, &str)]) {
    let line =
        |(ago, n, rest): &(i64, usize, &str)| format!("2 {} {rest}\n", sandbox.now() - ago * DAY).repeat(*n);
    let text: String = lines.iter().map(line).collect();
    let current = sandbox.path("var/lib/postern/state/tally/current");
    fs::write(&current, text).unwrap();
    sandbox.give(&current, POSTERN);
    sandbox.postern(&["tick"]).succeeded();
}

fn good(country: &str, account: &str) -> String {
    let network = if country == "DE" { "192.0.2.0/24" } else { "198.51.100.0/24" };
    format!("success dovecot-policy imap {country} {network} allow ended {account}")
}

/// Ten days: Germans, an Austrian, Bob in Brazil, a mailbox that nobody names.
fn seen() -> Sandbox {
    let sandbox = Sandbox::new();
    let (alice, bob, carol) =
        (good("DE", ALICE), good("BR", "bob@example.test"), good("AT", "carol@other.test"));
    let mut lines: Vec<(i64, usize, &str)> = (0..10).map(|ago| (ago, 19, alice.as_str())).collect();
    let tries = [
        (0, 3, "try dovecot-policy imap BR - allow nothing_against bob@example.test"),
        (0, 2, "failure dovecot-policy imap BR - failed ended bob@example.test"),
        (1, 4, "send exim-data smtp DE - allow within_limit alice@example.test"),
        (2, 1, "send exim-local local - - allow within_limit web"),
        (0, 5, "success dovecot-policy imap - - allow ended alice@example.test"),
    ];
    lines.extend([(0, 1, bob.as_str()), (3, 8, &carol), (9, 1, &carol)]);
    lines.extend(tries);
    told(&sandbox, &lines);
    sandbox
}

/// The row with this value in a column.
#[track_caller]
fn row<'a>(rows: &'a Value, column: &str, value: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|row| row[column] == value);
    found.unwrap_or_else(|| panic!("{value}: {rows}"))
}

#[test]
fn country_statistics_tell_successes_with_their_share_and_messages_apart() {
    let sandbox = seen();
    let all = sandbox.api(&["country_statistics"]);
    // 190 from Germany, 9 from Austria, 1 from Brazil, 5 from nowhere.
    assert_eq!((&all["logins"], &all["messages"]), (&json!(205), &json!(5)));
    let germany = row(&all["rows"], "code", "DE");
    assert_eq!(
        (&germany["name"], &germany["succeeded"], &germany["share"]),
        (&json!("Germany"), &json!(190), &json!(92.68))
    );
    assert_eq!((&germany["messages_sent"], &germany["messages_share"]), (&json!(4), &json!(80.0)));
    let brazil = row(&all["rows"], "code", "BR");
    let figures = ["tried", "failed", "succeeded", "share"].map(|column| brazil[column].clone());
    assert_eq!(figures, [json!(3), json!(2), json!(1), json!(0.49)]);
    assert_eq!(row(&all["rows"], "code", "")["succeeded"], 5);
    let order: Vec<_> = all["rows"].as_array().unwrap().iter().map(|r| r["code"].as_str().unwrap()).collect();
    assert_eq!(order, ["DE", "AT", "", "BR"]);
    let logins = sandbox.api(&["country_statistics", "direction=logins", "days=1"]);
    assert_eq!((&logins["logins"], &logins["rows"][0]["succeeded"]), (&json!(25), &json!(19)), "{logins}");
    assert!(logins["rows"][0].get("messages_sent").is_none());
    assert_eq!(logins["since"], NOON / DAY * DAY);
    let outbound = sandbox.api(&["country_statistics", "direction=outbound"]);
    assert_eq!((&outbound["messages"], &outbound["rows"][0]["code"]), (&json!(5), &json!("DE")));
    assert!(outbound["rows"][0].get("succeeded").is_none());
    let smtp = sandbox.api(&["country_statistics", "service=smtp"]);
    assert_eq!((&smtp["logins"], &smtp["messages"]), (&json!(0), &json!(4)));
    let inbound = sandbox.api(&["country_statistics", "direction=inbound"]);
    assert_eq!(inbound["rows"], json!([]));
    assert!(inbound["says"].as_str().unwrap().contains("follow_logs"), "{inbound}");
}

#[test]
fn a_service_whose_successes_nobody_tells_is_pointed_out() {
    let sandbox = Sandbox::new();
    told(&sandbox, &[(0, 3, "try dovecot-gate pop3 DE - allow nothing_against alice@example.test")]);
    let said = sandbox.postern(&["statistics"]);
    assert!(said.err.contains("Warning: 3 logins of pop3 were tried and not refused"), "{said:?}");
    assert_eq!(seen().postern(&["statistics"]).err, "");
}

#[test]
fn a_country_is_told_by_account_and_by_network() {
    let sandbox = seen();
    let accounts = sandbox.api(&["country_statistics", "country=Germany", "days=2"]);
    let last = NOON / DAY * DAY;
    assert_eq!((&accounts["logins"], &accounts["accounts"]), (&json!(38), &json!(1)));
    assert_eq!(accounts["rows"], json!([{ "account": ALICE, "logins": 38, "share": 100.0, "last": last }]));
    let networks = sandbox.api(&["country_statistics", "country=AT", "by=network"]);
    assert_eq!(
        networks["rows"],
        json!([{ "network": "198.51.100.0/24", "logins": 9, "share": 100.0, "last": last - 3 * DAY }])
    );
    assert_eq!(sandbox.api(&["country_statistics", "country=FR"])["rows"], json!([]));
    let said = sandbox.postern(&["statistics", "--country", "DE", "--days", "36"]).failed();
    assert!(said.contains("at most 35") && said.contains("keep_login_days"), "{said}");
}

#[test]
fn an_account_has_its_own_statistics_by_day_and_by_month() {
    let sandbox = seen();
    let own = sandbox.api(&["account_statistics", &format!("account={ALICE}"), "days=2"]);
    let imap = |code: &str| {
        let rows = own["rows"].as_array().unwrap().iter();
        rows.filter(|r| r["service"] == "imap" && r["code"] == code).map(|r| r["succeeded"].clone()).next()
    };
    assert_eq!((imap("DE"), imap("")), (Some(json!(38)), Some(json!(5))), "{own}");
    assert_eq!(row(&own["rows"], "service", "smtp")["messages_sent"], 4);
    assert_eq!((&own["countries"][0]["code"], &own["countries"][0]["logins"]), (&json!("DE"), &json!(38)));
    // NOON is the 25th of November 2026: a year goes back to the whole November before.
    let year = sandbox.api(&["account_statistics", "account=carol@other.test", "days=365"]);
    assert_eq!(year["rows"][0]["succeeded"], 9);
    assert_eq!(year["since"], 1_761_955_200, "{year}");
    let nobody = sandbox.api(&["account_statistics", "account=nobody@example.test"]);
    assert_eq!((&nobody["rows"], &nobody["countries"]), (&json!([]), &json!([])));
    // In the next month its days are still told, and in the next year its months.
    sandbox.wait(300 * DAY).postern(&["tick"]).succeeded();
    let later = sandbox.api(&["account_statistics", "account=carol@other.test", "days=365"]);
    assert_eq!(later["rows"][0]["succeeded"], 9, "{later}");
    let month = sandbox.api(&["account_statistics", "account=carol@other.test"]);
    assert_eq!(month["rows"], json!([]));
    let countries = sandbox.api(&["country_statistics", "days=365"]);
    assert_eq!(countries["logins"], 205);
}

#[test]
fn the_fewest_countries_are_suggested_with_whom_they_would_lock_out() {
    let sandbox = seen();
    let found = sandbox.api(&["suggest_countries"]);
    // 190 + 9 of 200 are exactly 99.5 %.
    assert_eq!(found["enough"], true, "{found}");
    let codes: Vec<_> = found["countries"].as_array().unwrap().iter().map(|c| c["code"].clone()).collect();
    assert_eq!(codes, ["DE", "AT"]);
    let figures = ["logins", "logins_of_unknown_countries", "covered_percent", "days_with_logins"];
    assert_eq!(figures.map(|f| found[f].clone()), [json!(200), json!(5), json!(99.5), json!(10)]);
    assert_eq!(found["command"], "postern countries set AT,DE");
    assert_eq!((&found["mailboxes_refused"], &found["logins_refused"]), (&json!(1), &json!(1)));
    let bob = &found["mailboxes"][0];
    assert_eq!((&bob["account"], &bob["countries"][0]["code"]), (&json!("bob@example.test"), &json!("BR")));
    assert_eq!(bob["last"], NOON / DAY * DAY);
    let more = sandbox.api(&["suggest_countries", "percent=99.6"]);
    assert_eq!(
        (&more["command"], &more["mailboxes"]),
        (&json!("postern countries set AT,BR,DE"), &json!([]))
    );
    let fewer = sandbox.api(&["suggest_countries", "percent=95"]);
    assert_eq!((&fewer["mailboxes_refused"], &fewer["logins_refused"]), (&json!(2), &json!(10)));
    for bad in ["percent=49", "percent=all", "percent=101", "days=0", "days=36"] {
        assert_eq!(sandbox.postern(&["api", "suggest_countries", bad]).json()["status"], 0, "{bad}");
    }
    // What it prints can be done.
    let command = found["command"].as_str().unwrap().split(' ').skip(1).collect::<Vec<_>>();
    sandbox.postern(&command).succeeded();
    sandbox.postern(&["settings", "set", "country_rule", "monitor"]).succeeded();
}

#[test]
fn the_servers_own_country_is_always_suggested() {
    let sandbox = seen().setting("default_server_geoip", "FR");
    let found = sandbox.api(&["suggest_countries"]);
    assert_eq!(found["command"], "postern countries set AT,DE,FR");
    let france = row(&found["countries"], "code", "FR");
    assert_eq!((&france["logins"], &found["server_country"]), (&json!(0), &json!("FR")));
    assert!(found["says"].as_str().unwrap().contains("FR is the server's own country"), "{found}");
}

#[test]
fn too_few_logins_suggest_nothing_and_that_is_said() {
    let sandbox = Sandbox::new();
    let alice = good("DE", ALICE);
    told(&sandbox, &[(0, 12, &alice), (1, 500, &alice)]);
    let found = sandbox.api(&["suggest_countries"]);
    assert_eq!((&found["enough"], &found["command"]), (&json!(false), &Value::Null));
    let said = found["says"].as_str().unwrap();
    assert!(
        said.starts_with("Too few logins") && said.contains("512") && said.contains("2 of the"),
        "{said}"
    );
    let nothing = Sandbox::new().postern(&["countries", "suggest"]).succeeded();
    assert!(nothing.contains("Too few logins were seen"), "{nothing}");
}

#[test]
fn a_dry_run_tells_whom_a_list_would_have_refused_at_every_level() {
    let sandbox = seen();
    let refused = |words: &[&str]| {
        let found = sandbox.api(&[&["dry_run"], words].concat());
        let names: Vec<_> =
            found["mailboxes"].as_array().unwrap().iter().map(|m| m["account"].clone()).collect();
        (found["logins"].clone(), found["logins_refused"].clone(), json!(names))
    };
    // The server's own country DE is always among the server's.
    assert_eq!(refused(&["countries=AT"]), (json!(205), json!(1), json!(["bob@example.test"])));
    assert_eq!(
        refused(&["countries=FR"]),
        (json!(205), json!(10), json!(["carol@other.test", "bob@example.test"]))
    );
    assert_eq!(refused(&["countries=FR", "days=3"]), (json!(63), json!(1), json!(["bob@example.test"])));
    // Alice's 195 and Bob's one; for a domain the server's country is not added.
    assert_eq!(refused(&["countries=BR", "for=example.test"]), (json!(196), json!(190), json!([ALICE])));
    assert_eq!(refused(&["countries=DE", &format!("for={ALICE}")]), (json!(195), json!(0), json!([])));
    let said = sandbox.postern(&["dry-run", "--for", ALICE]).failed();
    assert!(said.contains("has no list of its own"), "{said}");
    let found = sandbox.api(&["dry_run", "countries=AT"]);
    assert_eq!(found["countries"], json!([{ "code": "BR", "name": "Brazil", "logins": 1, "mailboxes": 1 }]));
    // Nothing of it is set.
    assert_eq!(sandbox.api(&["list_countries"])["lists"], json!([]));
}

#[test]
fn a_dry_run_heeds_who_is_exempt_allowed_or_has_a_list_of_his_own() {
    let none = |sandbox: &Sandbox| {
        let found = sandbox.api(&["dry_run", "countries=AT,DE"]);
        assert_eq!(found["mailboxes"], json!([]), "{found}");
    };
    none(&seen().exempt_user("bob@example.test"));
    none(&seen().exempt_user("example.test"));
    none(&seen().allowance("bob@example.test", "BR", "1h"));
    let sandbox = seen().countries_for("bob@example.test", "BR");
    none(&sandbox);
    let found = sandbox.api(&["dry_run"]);
    assert_eq!((&found["logins_refused"], &found["mailboxes_refused"]), (&json!(9), &json!(1)), "{found}");
    let sandbox = sandbox.countries_for("bob@example.test", "FR");
    let found = sandbox.api(&["dry_run"]);
    assert_eq!((&found["logins_refused"], &found["mailboxes_refused"]), (&json!(10), &json!(2)), "{found}");
}

#[test]
fn a_confirmation_shows_the_same_dry_run() {
    let sandbox = seen().setting("country_rule", "monitor");
    let said = sandbox.postern(&["countries", "set"]).failed();
    let told = "Of 205 successful logins of the last 30 days, 10 came from other countries and would have been refused, of 2 mailboxes. 5 more";
    assert!(said.contains(told), "{said}");
    let said = sandbox.postern(&["countries", "set", "--for", "example.test"]).failed();
    assert!(said.contains("Of 196 successful logins of the last 30 days, 191 came"), "{said}");
}

#[test]
fn a_dry_run_of_a_mode_goes_by_what_the_rule_recorded() {
    let sandbox = Sandbox::new().countries("DE").setting("smtp_logins_from", "exim");
    sandbox.auth(AMERICAN);
    sandbox.mail(ALICE, AMERICAN);
    let sandbox = sandbox.setting("country_rule", "monitor");
    sandbox.mail("bob@example.test", FRENCH);
    sandbox.postern(&["tick"]).succeeded();
    let run = |words: &[&str]| sandbox.api(&[&["dry_run", "rule=country_rule"], words].concat());
    let off = run(&["mode=off"]);
    assert_eq!((&off["logins_refused"], &off["accounts_refused"]), (&json!(2), &json!(2)), "{off}");
    assert_eq!(
        off["countries"],
        json!([{ "code": "US", "name": "United States of America", "logins": 2, "accounts": 2 }])
    );
    assert_eq!(run(&["mode=monitor"])["logins_refused"], 0);
    let limiter = sandbox.api(&["dry_run", "rule=rate_limiter"]);
    assert_eq!((&limiter["mode_now"], &limiter["messages_refused"]), (&json!("enforce"), &json!(0)));
    let sandbox = sandbox.setting("rate_limiter", "monitor").setting("rate_limit_messages", "2");
    for _ in 0..4 {
        assert_eq!(sandbox.send(ALICE), "allow\n");
    }
    sandbox.postern(&["tick"]);
    let limiter = sandbox.api(&["dry_run", "rule=rate_limiter"]);
    assert_eq!(
        (&limiter["messages_refused"], &limiter["mailboxes"][0]["account"]),
        (&json!(2), &json!(ALICE))
    );
    assert_eq!(sandbox.api(&["dry_run", "rule=rate_limiter", "mode=off"])["messages_refused"], 0);
    for bad in [&["rule=rate_limiter", "countries=DE"][..], &["mode=off", "countries=DE"], &["rule=none"]] {
        assert_eq!(sandbox.postern(&[&["api", "dry_run"], bad].concat()).json()["status"], 0, "{bad:?}");
    }
}

#[test]
fn each_of_two_rules_in_monitor_has_its_own_dry_run() {
    let sandbox = Sandbox::new().countries("DE").setting("smtp_logins_from", "exim");
    let sandbox = sandbox.setting("country_rule", "monitor").setting("source_rule", "monitor");
    sandbox.postern(&["clouds", "add", AMERICAN]).succeeded();
    let logs_in = |account: &str, address: &str| {
        assert!(!sandbox.auth(address).starts_with("deny"));
        assert!(sandbox.mail(account, address).starts_with("allow"));
    };
    (0..3).for_each(|_| logs_in(ALICE, AMERICAN));
    logs_in("bob@example.test", FRENCH);
    let tally = fs::read_to_string(sandbox.path("var/lib/postern/state/tally/current")).unwrap();
    assert_eq!(
        tally.matches(" would_refuse country_not_allowed,network_hosting alice@").count(),
        3,
        "{tally}"
    );
    sandbox.postern(&["tick"]);
    let run = |rule: &str| {
        let told = sandbox.api(&["dry_run", &format!("rule={rule}"), "mode=enforce"]);
        // The country rule is asked by its lists, the others by what they recorded.
        let who = ["accounts_refused", "mailboxes_refused"].iter().find_map(|name| told[name].as_i64());
        (told["logins_refused"].as_i64(), who)
    };
    let told = |n, who| (Some(n), Some(who));
    assert_eq!(
        [run("country_rule"), run("source_rule"), run("burst_rule")],
        [told(4, 2), told(3, 1), told(0, 0)]
    );
    // The logins themselves count once.
    let all = sandbox.api(&["country_statistics"]);
    assert_eq!(row(&all["rows"], "code", "US")["would_refuse"], 3, "{all}");
}

#[test]
fn the_story_of_a_refusal_tells_the_answer_now_and_what_changed() {
    let sandbox = Sandbox::new().countries("DE");
    sandbox.wait(60);
    let refusal = sandbox.mail(ALICE, AMERICAN);
    let reference = refusal.trim_end().trim_end_matches('.').rsplit(' ').next().unwrap().to_string();
    let tell = |sandbox: &Sandbox| sandbox.api(&["tell_story", &format!("reference={reference}")]);
    let story = tell(&sandbox);
    assert_eq!((&story["is_the_same"], &story["changed"]), (&json!(true), &json!([])), "{story}");
    assert_eq!((&story["account"], &story["verdict_now"]), (&json!(ALICE), &json!("refuse")));
    assert_eq!(row(&story["steps"], "rule", "Country Authentication Restriction")["found"], "refuses");
    sandbox.wait(60);
    let sandbox = sandbox.exempt_user("example.test");
    let story = tell(&sandbox);
    assert_eq!((&story["is_the_same"], &story["verdict_now"]), (&json!(false), &json!("allow")), "{story}");
    assert_eq!((&story["verdict_then"], &story["events"][0]["country"]), (&json!("refuse"), &json!("US")));
    let changed = story["changed"].as_array().unwrap();
    assert_eq!(changed.len(), 1, "{story}");
    assert!(
        changed[0].as_str().unwrap().contains("example.test")
            && changed[0].as_str().unwrap().contains("root")
    );
    let said = sandbox.postern(&["story", &reference]).succeeded();
    assert!(said.contains("Something else would be answered now."), "{said}");
    let said = sandbox.postern(&["story", "0000-0000"]).failed();
    assert!(said.contains("Nothing with the reference 0000-0000"), "{said}");
}

#[test]
fn the_story_of_a_stopped_sender_ends_with_its_stop() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "2");
    sandbox.wait(60).sends_freely(ALICE, 2);
    let refusal = sandbox.send(ALICE);
    let reference = refusal.trim_end().trim_end_matches('.').rsplit(' ').next().unwrap().to_string();
    let tell = || sandbox.api(&["tell_story", &format!("reference={reference}")]);
    let story = tell();
    assert_eq!((&story["verdict_now"], &story["account"]), (&json!("refuse"), &json!(ALICE)), "{story}");
    assert!(story["why_now"].as_str().unwrap().contains("until"), "{story}");
    sandbox.wait(6 * 3600);
    let story = tell();
    assert_eq!((&story["is_the_same"], &story["verdict_now"]), (&json!(false), &json!("allow")));
    assert!(story["changed"][0].as_str().unwrap().contains("360 minutes went by"), "{story}");
}

#[test]
fn figures_are_given_as_csv_and_no_name_becomes_a_formula() {
    let sandbox = seen();
    let said = sandbox.postern(&["statistics", "--format", "csv", "--direction", "outbound"]).succeeded();
    assert_eq!(
        said,
        "code,name,messages_share,messages_sent,messages_refused,messages_held,messages_would_refuse\n\
         DE,Germany,80.0,4,0,0,0\n,\"unknown, private or local\",20.0,1,0,0,0\n"
    );
    let evil = good("FR", "=cmd()@evil.test");
    told(&sandbox, &[(0, 1, &evil)]);
    let said = sandbox.postern(&["statistics", "--country", "FR", "--format", "csv"]).succeeded();
    assert!(said.contains("\n'=cmd()@evil.test,1,100.0,"), "{said}");
    assert!(sandbox.api(&["country_statistics", "format=csv"]).as_str().unwrap().starts_with("code,name,"));
    for words in [
        &["activity"][..],
        &["account-statistics", ALICE],
        &["countries", "suggest"],
        &["dry-run", "--countries", "FR"],
    ] {
        sandbox.postern(&[words, &["--format", "csv"]].concat()).succeeded();
    }
}

#[test]
fn what_the_settings_keep_for_a_shorter_time_is_gone() {
    let sandbox = seen().setting("keep_login_days", "7").setting("keep_login_months", "1");
    sandbox.postern(&["tick"]).succeeded();
    let oldest = "SELECT min(day) FROM account_day";
    assert_eq!(sandbox.in_state::<i64>(oldest), NOON / DAY - 7);
    assert_eq!(sandbox.in_state::<i64>("SELECT min(oldest) FROM account_place"), NOON / DAY - 3);
    let said = sandbox.postern(&["countries", "suggest", "--days", "8"]).failed();
    assert!(said.contains("at most 7"), "{said}");
    for (key, bad) in [("keep_login_days", "6"), ("keep_login_months", "0"), ("keep_activity_days", "0")] {
        assert!(sandbox.postern(&["settings", "set", key, bad]).failed().contains("accepted"));
    }
}

#[test]
fn a_forged_state_makes_absurd_figures_and_nothing_worse() {
    let sandbox = seen();
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    let huge = "9223372036854775807";
    for sql in [
        format!("UPDATE traffic_day SET n = {huge}"),
        format!("UPDATE traffic_month SET n = {huge}, verdict = char(27) || verdict"),
        format!("UPDATE account_day SET tried = {huge}, succeeded = {huge}"),
        "UPDATE account_place SET days = zeroblob(100000)".into(),
        "UPDATE domain_by_day SET uses = zeroblob(100000)".into(),
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 3000)
         INSERT INTO account_place(country, part, oldest, entries, days)
         SELECT char(27) || v, 0, 20782, 1, x'01e6a20102ff7f' FROM n"
            .into(),
        "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 3000)
         INSERT INTO login_place SELECT char(27) || v, 1, 20782, x'ffffffff' FROM n"
            .into(),
        format!("UPDATE login_network SET last = {huge}, days = randomblob(399)"),
        "UPDATE account SET name = char(27) || '[2J' || name".into(),
    ] {
        db.execute(&sql, []).unwrap();
    }
    drop(db);
    for words in [
        &["statistics"][..],
        &["statistics", "--country", "DE"],
        &["statistics", "--country", "DE", "--by", "network"],
        &["statistics", "--format", "csv"],
        &["account-statistics", ALICE],
        &["account-statistics", ALICE, "--days", "365"],
        &["countries", "suggest"],
        &["dry-run", "--countries", "FR"],
        &["dry-run", "--rule", "rate_limiter"],
        &["tick"],
    ] {
        let ran = sandbox.postern(words);
        assert_eq!(ran.status, Some(0), "{words:?}: {ran:?}");
        assert!(!format!("{}{}", ran.out, ran.err).contains('\u{1b}'), "{words:?}");
    }
}

#[test]
fn activity_is_listed_for_as_long_as_it_is_kept() {
    let sandbox = Sandbox::new().countries("DE").setting("keep_activity_days", "1000");
    assert!(sandbox.mail(ALICE, AMERICAN).starts_with("deny"));
    sandbox.wait(800 * DAY).postern(&["tick"]).succeeded();
    assert_eq!(sandbox.api(&["list_activity"]), json!([]));
    assert_eq!(sandbox.api(&["list_activity", "days=900"])[0]["account"], ALICE);
}
