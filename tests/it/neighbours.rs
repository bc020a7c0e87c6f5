//! Other products that ban addresses: what they ask about our refusals, and what they ban, found and lifted. fail2ban,
//! csf and whmapi1 are stand-ins here, strict about how they are asked; the real fail2ban is in tests/servers.

use crate::sandbox::*;
use serde_json::{Value, json};
use std::fs;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// A stand-in for a product's program, which answers by this shell `case` on all its words, and to nothing else.
fn stand_in(sandbox: &Sandbox, program: &str, cases: &str) {
    let path = sandbox.path(program);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let here = sandbox.root().display();
    let script = format!(
        "#!/bin/sh\n[ \"$(id -u)\" = 0 ] && [ -z \"$HOME\" ] && [ $# -ge 1 ] || exit 9\ncd {here}\n\
         case \"$*\" in\n{cases}\n*) echo \"$0 $*\" >>unexpected; exit 9;;\nesac\n"
    );
    sandbox.install(&path, &script);
}

fn fail2ban(sandbox: &Sandbox) {
    fs::write(sandbox.path("jails"), "[['exim', 'recidive']]\n").unwrap();
    let cases = format!(
        "\"banned {AMERICAN}\") cat jails;;\n\
         banned\\ *) echo '[[]]';;\n\
         \"set exim unbanip {AMERICAN}\") echo \"[['recidive']]\" >jails; echo 1;;\n\
         \"set recidive unbanip {AMERICAN}\") echo '[[]]' >jails; echo 1;;"
    );
    stand_in(sandbox, "usr/bin/fail2ban-client", &cases);
}

fn csf(sandbox: &Sandbox) {
    for folder in ["etc/csf", "var/lib/csf"] {
        fs::create_dir_all(sandbox.path(folder)).unwrap();
    }
    let deny = format!(
        "{AMERICAN} # lfd: (smtpauth) Failed SMTP AUTH login from {AMERICAN} (US/United States/-): 5 in the last 3600 secs - Mon Nov 30\n\
         198.51.100.0/24 # do not delete - the neighbours\n\
         203.0.113.9 # lfd: (sshd) somebody else\n"
    );
    fs::write(sandbox.path("etc/csf/csf.deny"), deny).unwrap();
    let temporary = format!("{NOON}|{AMERICAN}|25,465,587|in|3600|lfd - (smtpauth) \u{1b}[2Jx\n");
    fs::write(sandbox.path("var/lib/csf/csf.tempban"), temporary).unwrap();
    let cases = format!(
        "\"-dr {AMERICAN}\") sed -i '/^{AMERICAN} /d' etc/csf/csf.deny;;\n\
         \"-trd {AMERICAN}\") sed -i '/|{AMERICAN}|/d' var/lib/csf/csf.tempban;;"
    );
    stand_in(sandbox, "usr/sbin/csf", &cases);
}

fn cphulk(sandbox: &Sandbox) {
    let row =
        json!({ "ip": AMERICAN, "notes": "maximum auth failures", "exptime": "2026-12-07T00:00:00.000Z" });
    let good = |data: Value| json!({ "metadata": { "result": 1, "reason": "OK" }, "data": data }).to_string();
    fs::write(sandbox.path("brutes"), good(json!({ "brutes": [row] }))).unwrap();
    let none = good(json!({ "brutes": [], "excessive_brutes": [] }));
    let black = good(json!({ "ips_in_list": { "198.51.100.1-198.51.100.20": "by hand" } }));
    let cases = format!(
        "'--output=json get_cphulk_brutes') cat brutes;;\n\
         '--output=json get_cphulk_excessive_brutes') echo '{none}';;\n\
         '--output=json read_cphulk_records list_name=black') echo '{black}';;\n\
         '--output=json flush_cphulk_login_history_for_ips ip={AMERICAN}') echo '{none}' >brutes; echo '{none}';;"
    );
    stand_in(sandbox, "usr/local/cpanel/bin/whmapi1", &cases);
}

fn found(rows: &Value) -> Vec<(String, bool)> {
    let row = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (format!("{} {} {}", text("product"), text("place"), text("banned")), row["by_hand"] == true)
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

fn find(sandbox: &Sandbox) -> Vec<(String, bool)> {
    found(&sandbox.api(&["find_bans", &format!("address={AMERICAN}")]))
}

fn expected(rows: &[(&str, bool)]) -> Vec<(String, bool)> {
    rows.iter().map(|(text, by_hand)| (text.replace("IT", AMERICAN), *by_hand)).collect()
}

const BY_HAND: [(&str, bool); 2] =
    [("csf csf.deny 198.51.100.0/24", true), ("cphulk black 198.51.100.1-198.51.100.20", true)];

#[test]
fn explain_shows_what_others_ban_and_lifting_takes_off_all_that_nobody_wrote_by_hand() {
    let sandbox = Sandbox::new();
    let explain = || sandbox.api_says("explain", &json!({ "account": ALICE, "address": AMERICAN }));
    assert_eq!((&explain()["warnings"], &explain()["data"]["bans"]), (&Value::Null, &Value::Null));
    fail2ban(&sandbox);
    csf(&sandbox);
    cphulk(&sandbox);
    let all = [
        ("fail2ban exim IT", false),
        ("fail2ban recidive IT", false),
        ("csf csf.deny IT", false),
        BY_HAND[0],
        ("csf csf.tempban IT", false),
        ("cphulk brutes IT", false),
        BY_HAND[1],
    ];
    assert_eq!(found(&explain()["data"]["bans"]), expected(&all));
    assert!(explain()["warnings"][0].as_str().unwrap().contains(&format!("`postern bans lift {AMERICAN}`")));
    let shown = sandbox.postern(&["explain", ALICE, AMERICAN]).succeeded();
    assert!(shown.contains("maximum auth failures") && !shown.contains('\u{1b}'), "{shown}");
    assert!(sandbox.api(&["find_bans", &format!("address={GERMAN}")]).as_array().unwrap().is_empty());

    sandbox.api(&["lift_bans", &format!("address={AMERICAN}"), "products=fail2ban", "reason=the hotel"]);
    assert_eq!(find(&sandbox), expected(&all[2..]));
    let trail = &sandbox.api(&["list_audit"])[0];
    assert_eq!((&trail["action"], &trail["subject"]), (&json!("lift_ban"), &json!(AMERICAN)), "{trail}");
    let lifted = sandbox.postern(&["blocks", "release", AMERICAN, "--lift"]);
    assert!(
        lifted.err.contains("csf bans 198.51.100.0/24 because somebody wrote it into csf.deny"),
        "{}",
        lifted.err
    );
    lifted.succeeded();
    assert_eq!(find(&sandbox), expected(&BY_HAND));
    assert!(fs::read_to_string(sandbox.path("etc/csf/csf.deny")).unwrap().contains("203.0.113.9"));
    let again = sandbox.api_says("lift_bans", &json!({ "address": AMERICAN, "products": "fail2ban" }));
    assert_eq!(again["metadata"]["code"], "not_found", "{again}");
    assert!(!sandbox.path("unexpected").exists(), "{:?}", fs::read_to_string(sandbox.path("unexpected")));
}

#[test]
fn releasing_an_address_says_who_else_keeps_it_out_and_an_own_block_goes_with_it() {
    let sandbox = Sandbox::new().blocked(AMERICAN);
    fail2ban(&sandbox);
    let told = sandbox.postern(&["blocks", "release", AMERICAN]);
    assert!(told.err.contains(&format!("fail2ban bans {AMERICAN} (exim)")), "{}", told.err);
    told.succeeded();
    assert!(sandbox.postern(&["blocks", "release", AMERICAN]).failed().contains("But fail2ban bans"));
    let sandbox = sandbox.blocked(AMERICAN);
    sandbox.postern(&["blocks", "release", AMERICAN, "--lift"]).succeeded();
    assert_eq!((find(&sandbox), sandbox.api(&["list_blocks"])), (vec![], json!([])));
    assert!(
        sandbox.postern(&["blocks", "release", ALICE, "--lift"]).failed().contains("only with an address")
    );
}

#[test]
fn a_product_that_does_not_answer_or_not_as_documented_is_named_and_stops_nothing() {
    let sandbox = Sandbox::new();
    cphulk(&sandbox);
    for (then, why) in [
        ("*) exit 255;;", "its client failed"),
        ("*) echo ERROR;;", "is not understood"),
        ("*) echo \"[['--help']]\";;", "is not understood"),
        ("*) yes '[[]]';;", "more than 16777216 bytes"),
    ] {
        stand_in(&sandbox, "usr/bin/fail2ban-client", then);
        let said = sandbox.api_says("explain", &json!({ "account": ALICE, "address": AMERICAN }));
        assert_eq!((&said["status"], found(&said["data"]["bans"]).len()), (&json!(1), 2), "{said}");
        assert!(said["warnings"][0].as_str().unwrap().contains(why), "{said}");
    }
    stand_in(&sandbox, "usr/bin/fail2ban-client", "banned*) echo \"[['exim']]\";;\nset*) exit 255;;");
    let said = sandbox.api_says("lift_bans", &json!({ "address": AMERICAN, "products": "fail2ban" }));
    assert_eq!((&said["status"], &said["metadata"]["code"]), (&json!(0), &json!("incomplete")), "{said}");
    let off = r#"*) echo '{"metadata":{"result":0,"reason":"cPHulk is disabled on the server."}}';;"#;
    stand_in(&sandbox, "usr/local/cpanel/bin/whmapi1", off);
    assert_eq!(find(&sandbox).len(), 1, "fail2ban's alone");
}

/// Whether a line about this address, written so many seconds ago, is spared.
fn spared(sandbox: &Sandbox, address: &str, ago: i64, within: i64) -> bool {
    let at = format!("--at={}.0", sandbox.now() - ago);
    let ran = sandbox.postern(&["was-refused", address, &at, &format!("--within={within}")]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    ran.status == Some(0)
}

#[test]
fn a_line_about_a_refusal_of_ours_is_spared_and_one_about_a_wrong_password_is_not() {
    let sandbox = Sandbox::new().countries("DE");
    sandbox.postern(&["tick"]).succeeded();
    assert!(!spared(&sandbox, AMERICAN, 0, 15));
    assert_eq!(Call::gate(ALICE, AMERICAN).run(&sandbox).said().0, Some(1));
    assert!(spared(&sandbox, AMERICAN, 0, 15) && !spared(&sandbox, GERMAN, 0, 15));
    assert!(!spared(&sandbox, "198.51.100.10", 0, 15), "a neighbour");
    assert!(!spared(&sandbox, AMERICAN, 60, 15), "a line from before");
    sandbox.wait(16);
    assert!(
        !spared(&sandbox, AMERICAN, 0, 15)
            && spared(&sandbox, AMERICAN, 0, 300)
            && spared(&sandbox, AMERICAN, 16, 15)
    );
}

#[test]
fn who_guesses_passwords_is_spared_nothing_however_often_he_is_refused() {
    let sandbox = Sandbox::new().countries("DE").exempt_user(BOB);
    sandbox.postern(&["tick"]).succeeded();
    for n in 1..=4 {
        assert_eq!(Call::gate(ALICE, AMERICAN).run(&sandbox).said().0, Some(1));
        assert_eq!(spared(&sandbox, AMERICAN, 0, 300), n <= 3, "after {} guesses", n - 1);
        let input = format!("{BOB}\0guess {n}\0{NOON}\0").into_bytes();
        let failed = Call { words: vec!["failed"], input, ..Call::gate(BOB, AMERICAN) };
        assert_eq!(failed.run(&sandbox).said(), (Some(1), ""));
    }
    assert!(!spared(&sandbox, "::ffff:198.51.100.9", 0, 300));
}

#[test]
fn what_is_in_monitor_or_a_message_refused_spares_nothing_and_trouble_spares_nobody() {
    let sandbox = Sandbox::new().countries("DE").setting("country_rule", "monitor");
    assert_eq!(Call::gate(ALICE, AMERICAN).run(&sandbox).said().0, Some(0));
    assert!(!spared(&sandbox, AMERICAN, 0, 300));
    for bad in ["--at=x", "--at=-5", "--at=99999999999", "--within=0", "--within=3601"] {
        assert_ne!(sandbox.postern(&["was-refused", AMERICAN, bad]).status, Some(0), "{bad}");
    }
    let sandbox = sandbox.setting("country_rule", "enforce");
    assert_eq!(Call::gate(ALICE, AMERICAN).run(&sandbox).said().0, Some(1));
    assert!(spared(&sandbox, AMERICAN, 0, 300));
    fs::remove_dir_all(sandbox.path("var/lib/postern/state")).unwrap();
    assert_ne!(sandbox.postern(&["was-refused", AMERICAN]).status, Some(0));
}
