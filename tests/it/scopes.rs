//! Every function of the API, called for a reseller and for an owner: it works on what is theirs, is refused on what is
//! not, or is refused wholly. What is refused changes nothing.

use crate::sandbox::*;
use serde_json::Value;
use std::fs;

/// A server of cPanel's: ann is rex's customer, otto is somebody else's.
pub(crate) fn cpanel(sandbox: &Sandbox) {
    fs::create_dir_all(sandbox.path("usr/local/cpanel")).unwrap();
    for (file, text) in [
        ("etc/userdomains", "*: nobody\nann.test: ann\nrex.test: rex\notto.test: otto\n"),
        ("etc/trueuserdomains", "ann.test: ann\nrex.test: rex\notto.test: otto\n"),
        ("etc/trueuserowners", "ann: rex\nrex: rex\notto: root\n"),
    ] {
        fs::write(sandbox.path(file), text).unwrap();
    }
}

/// The helper's call for somebody.
pub(crate) fn call_as(sandbox: &Sandbox, who: &str, words: &[&str]) -> Value {
    sandbox.postern(&[&["--as", who, "api"], words].concat()).json()
}

#[track_caller]
pub(crate) fn allowed(answer: &Value, what: &str) {
    assert_eq!(answer["status"], 1, "{what}: {answer}");
}

#[track_caller]
pub(crate) fn refused(answer: &Value, what: &str) {
    assert_eq!(
        (&answer["status"], &answer["metadata"]["code"]),
        (&0.into(), &"not_allowed".into()),
        "{what}: {answer}"
    );
}

/// Everything that a call could change.
pub(crate) fn snapshot(sandbox: &Sandbox) -> (i64, Vec<u8>, String) {
    let generation = sandbox.api(&["get_settings"])["generation"].as_i64().unwrap();
    let policy = fs::read(sandbox.path("var/lib/postern/policy.db")).unwrap();
    let lists = ["list_blocks", "list_held", "list_user_exemptions", "list_allowances", "list_audit"];
    let notices: i64 = sandbox.in_state("SELECT count(*) FROM notice");
    (generation, policy, format!("{notices} {:?}", lists.map(|list| sandbox.api(&[list]).to_string())))
}

const STOPPED: [&str; 3] = ["1xW1Xt-0000gl-1R", "1xW1Xt-0000gl-2R", "1xW1Xt-0000gl-3R"];
const FOREIGN: &str = "1xW1Xt-0000gl-9R";

/// The same of ann's and of otto's in every list; what the administrator set about either has "set" in its name.
fn scene() -> Sandbox {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "1");
    let sandbox = sandbox.setting("owner_allowances", "on").setting("owner_release", "on");
    cpanel(&sandbox);
    exim(&sandbox);
    let mut sandbox =
        sandbox.blocked("203.0.113.0/24").exempt_ip("198.51.100.0/24").whitelisted("news@otto.test");
    for domain in ["ann.test", "otto.test"] {
        let of = |name: &str| format!("{name}@{domain}");
        sandbox = sandbox.exempt_user(&of("set-exempt")).blocked(&of("set-blocked"));
        sandbox = sandbox.countries_for(&of("set-countries"), "DE").allowance(&of("set-allowed"), "BR", "9d");
        assert!(sandbox.mail(&of("alice"), UNKNOWN).starts_with("allow"));
        assert!(sandbox.mail(&of("alice"), GERMAN_V6).starts_with("allow"));
        assert!(sandbox.mail(&of("alice"), AMERICAN_V6).starts_with("deny"));
        assert_eq!(sandbox.send(&of("stopped")), "allow\n");
        assert!(sandbox.send(&of("stopped")).starts_with("defer"));
    }
    for (user, messages) in [("ann", &STOPPED[..]), ("otto", &[FOREIGN])] {
        assert_eq!(sandbox.send_locally(user, 1000, "a-b-0"), "allow\n");
        for id in messages {
            assert!(sandbox.send_locally(user, 1000, id).starts_with("hold "));
        }
    }
    sandbox.postern(&["tick"]);
    sandbox
}

/// Exim, as far as it is asked about held messages.
fn exim(sandbox: &Sandbox) {
    let program = sandbox.path("usr/sbin/exim4");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let listed: String = STOPPED
        .iter()
        .chain([&FOREIGN])
        .map(|id| format!("echo ' 0m   289 {id} <x@y.test> *** frozen ***'\n"))
        .collect();
    sandbox.install(&program, &format!("#!/bin/sh\n[ $1 = -bpr ] || exit 0\n{listed}"));
}

/// Calls of one function: on what is ann's, with what the answer holds; and on what is not.
struct Calls {
    function: &'static str,
    own: &'static [&'static str],
    shows: &'static str,
    foreign: &'static [&'static [&'static str]],
}

const fn calls(
    function: &'static str,
    own: &'static [&'static str],
    shows: &'static str,
    foreign: &'static [&'static [&'static str]],
) -> Calls {
    Calls { function, own, shows, foreign }
}

/// Functions that are open to somebody below the administrator; each of the others is refused wholly.
const OPEN: &[Calls] = &[
    calls(
        "explain",
        &["account=alice@ann.test", "address=192.0.2.7"],
        "Germany",
        &[&["account=alice@otto.test", "address=192.0.2.7"], &["account=otto", "address=192.0.2.7"]],
    ),
    calls(
        "list_activity",
        &["reason=country_not_allowed", "limit=1"],
        "alice@ann.test",
        &[&["account=alice@otto.test"]],
    ),
    calls("list_known_networks", &["account=alice@ann.test"], "[", &[&["account=alice@otto.test"]]),
    calls("country_statistics", &[], r#""messages_refused":1"#, &[]),
    calls("country_statistics", &["days=400"], r#""messages_refused":1"#, &[]),
    calls("country_statistics", &["country=DE"], "alice@ann.test", &[&["country=DE", "by=network"]]),
    calls(
        "account_statistics",
        &["account=alice@ann.test"],
        "Germany",
        &[&["account=alice@otto.test"], &["account=otto"]],
    ),
    calls("dry_run", &["countries=FR"], r#""logins":2,"#, &[&["countries=FR", "for=otto.test"]]),
    calls("dry_run", &[], r#""mailboxes_refused":0"#, &[]),
    calls("dry_run", &["countries=FR", "for=ann.test"], "alice@ann.test", &[&["for=alice@otto.test"]]),
    calls("dry_run", &["rule=rate_limiter"], "stopped@ann.test", &[]),
    calls("dry_run", &["countries=FR", "for=ann.test", "format=csv"], "alice@ann.test,DE", &[]),
    calls("tell_story", &["reference=REFERENCE"], "The same would be answered now.", &[]),
    calls("list_blocks", &[], "stopped@ann.test", &[]),
    calls("list_watched", &[], "[", &[]),
    calls("list_held", &[], STOPPED[0], &[&["account=otto"], &["account=alice@otto.test"]]),
    calls("list_countries", &[], "set-countries@ann.test", &[]),
    calls("known_countries", &[], "Germany", &[]),
    calls("list_user_exemptions", &[], "set-exempt@ann.test", &[]),
    calls("list_allowances", &[], "set-allowed@ann.test", &[]),
    calls("lookup_address", &["address=192.0.2.7"], "DE", &[]),
    calls("list_functions", &[], "add_allowance", &[]),
    calls(
        "add_allowance",
        &["for=alice@ann.test", "from=BR", "until=7d"],
        "id",
        &[
            &["for=alice@otto.test", "from=BR", "until=7d"],
            &["for=otto.test", "from=BR", "until=7d"],
            &["for=otto", "from=BR", "until=7d"],
            &["for=set-countries@ann.test", "from=BR", "until=7d"],
            &["for=ann.test", "from=BR", "until=7d"],
        ],
    ),
    calls("remove_allowance", &["id=OWN"], "", &[&["id=1"], &["id=2"], &["id=77"]]),
    calls(
        "release_block",
        &["value=stopped@ann.test"],
        "",
        &[
            &["value=stopped@otto.test"],
            &["value=otto.test"],
            &["value=otto"],
            &["value=203.0.113.0/24"],
            &["value=set-blocked@ann.test"],
        ],
    ),
    calls(
        "add_block",
        &["value=bad@ann.test"],
        "",
        &[
            &["value=bad@otto.test"],
            &["value=otto.test"],
            &["value=otto"],
            &["value=192.0.2.0/24"],
            &["value=set-blocked@ann.test", "until=1m"],
        ],
    ),
    calls(
        "release_held",
        &["message=1xW1Xt-0000gl-1R"],
        "",
        &[&["message=1xW1Xt-0000gl-9R"], &["message=a-b-c"]],
    ),
    calls(
        "remove_held",
        &["message=1xW1Xt-0000gl-2R"],
        "",
        &[&["message=1xW1Xt-0000gl-9R"], &["message=a-b-c"]],
    ),
    calls(
        "allow_countries",
        &["countries=FR", "for=carol@ann.test"],
        "FR",
        &[
            &["countries=FR", "for=carol@otto.test"],
            &["countries=FR", "for=otto.test"],
            &["countries=FR"],
            &["countries=FR", "for="],
            &["countries=FR", "for=set-countries@ann.test"],
        ],
    ),
    calls(
        "set_countries",
        &["countries=FR,DE", "for=carol@ann.test"],
        "FR",
        &[
            &["countries=FR", "for=carol@otto.test"],
            &["countries=FR"],
            &["countries=", "confirm=on"],
            &["countries=FR", "for=set-countries@ann.test"],
        ],
    ),
    calls(
        "disallow_countries",
        &["countries=FR", "for=carol@ann.test"],
        "DE",
        &[
            &["countries=DE", "for=carol@otto.test", "confirm=on"],
            &["countries=DE", "confirm=on"],
            &["countries=DE", "for=set-countries@ann.test", "confirm=on"],
        ],
    ),
    calls(
        "unset_countries",
        &["for=carol@ann.test"],
        "",
        &[&["for=carol@otto.test"], &["for=set-countries@ann.test"], &["for=set-countries@otto.test"]],
    ),
    calls(
        "add_user_exemption",
        &["value=carol@ann.test"],
        "",
        &[
            &["value=carol@otto.test"],
            &["value=otto.test"],
            &["value=otto"],
            &["value=set-exempt@ann.test", "until=1m"],
            &["value=set-countries@ann.test"],
            &["value=set-blocked@ann.test"],
            &["value=ann.test"],
        ],
    ),
    calls(
        "import_user_exemptions",
        &["entries=dora@ann.test\nann"],
        "2 entries were taken",
        &[
            &["file=/etc/passwd"],
            &["file=-"],
            &["entries=set-exempt@ann.test # mine"],
            &["entries=set-blocked@ann.test"],
        ],
    ),
    calls("export_user_exemptions", &[], "set-exempt@ann.test", &[]),
    calls(
        "import_blocks",
        &["entries=bad2@ann.test"],
        "1 entries were taken",
        &[&["file=/etc/passwd"], &["entries=set-blocked@ann.test # mine"]],
    ),
    calls("export_blocks", &[], "set-blocked@ann.test", &[]),
    calls(
        "import_allowances",
        &["entries=for,from,until\nalice@ann.test,FR,2027-01-01\n"],
        "1 entries were taken",
        &[&["file=-"], &["entries=for,from,until\nset-countries@ann.test,FR,2027-01-01\n"]],
    ),
    calls("export_allowances", &[], "set-allowed@ann.test", &[]),
    calls(
        "remove_user_exemption",
        &["value=carol@ann.test"],
        "",
        &[&["value=set-exempt@ann.test"], &["value=set-exempt@otto.test"]],
    ),
];

/// Words of a call; `OWN` becomes the number of the caller's own allowance, `REFERENCE` what alice's client was told.
fn words(sandbox: &Sandbox, who: &str, calls: &Calls, arguments: &[&str]) -> Vec<String> {
    let name = who.replace(':', " ");
    let own = || {
        let all = sandbox.api(&["list_allowances"]);
        let found = all.as_array().unwrap().iter().find(|grant| grant["who"] == name.as_str()).unwrap();
        found["id"].to_string()
    };
    let reference = || {
        let of_alice = ["list_activity", "account=alice@ann.test", "reason=country_not_allowed"];
        sandbox.api(&of_alice)[0]["reference"].as_str().unwrap().to_owned()
    };
    let word = |word: &&str| match *word {
        "id=OWN" => format!("id={}", own()),
        "reference=REFERENCE" => format!("reference={}", reference()),
        other => other.to_owned(),
    };
    [calls.function.to_owned()].into_iter().chain(arguments.iter().map(word)).collect()
}

fn call_words(sandbox: &Sandbox, who: &str, words: &[String]) -> Value {
    call_as(sandbox, who, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn check(who: &str, scope: &str) {
    let sandbox = scene();
    let functions = sandbox.api(&["list_functions"]);
    let functions: Vec<(&str, &str)> = functions
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["function"].as_str().unwrap(), f["scope"].as_str().unwrap()))
        .collect();
    let ranks = ["root", "reseller", "owner"];
    let rank = |word: &str| ranks.iter().position(|r| *r == word).unwrap();
    let before = snapshot(&sandbox);
    for (function, least) in &functions {
        if rank(least) < rank(scope) {
            for words in [&[*function][..], &[*function, "for=alice@ann.test", "as=root:x"]] {
                refused(&call_as(&sandbox, who, words), &format!("{who} {words:?}"));
            }
        } else {
            assert!(OPEN.iter().any(|c| c.function == *function), "{function} is open to {least}: say how");
            for forged in ["as=root:x", "who=root", "scope=root", "theirs=otto.test"] {
                let answer = call_as(&sandbox, who, &[function, forged]);
                assert_eq!(answer["metadata"]["code"], "bad_value", "{function} {forged}: {answer}");
            }
        }
    }
    for calls in OPEN {
        let (_, least) = functions.iter().find(|(name, _)| *name == calls.function).unwrap();
        let is_open = rank(least) >= rank(scope);
        for foreign in calls.foreign {
            let words = words(&sandbox, who, calls, foreign);
            refused(&call_words(&sandbox, who, &words), &format!("{who} {words:?}"));
        }
        if !is_open && !calls.own.contains(&"id=OWN") {
            let words = words(&sandbox, who, calls, calls.own);
            refused(&call_words(&sandbox, who, &words), &format!("{who} {words:?}"));
        }
    }
    assert_eq!(snapshot(&sandbox), before, "what was refused changed something");
    for calls in OPEN {
        let (_, least) = functions.iter().find(|(name, _)| *name == calls.function).unwrap();
        if rank(least) >= rank(scope) {
            let words = words(&sandbox, who, calls, calls.own);
            let answer = call_words(&sandbox, who, &words);
            let what = format!("{who} {words:?}: {answer}");
            allowed(&answer, &what);
            let said = answer.to_string();
            assert!(said.contains(calls.shows), "{what}");
            assert!(!said.contains("otto") && !said.contains(FOREIGN), "{what}");
            assert!(!said.contains("203.0.113.0") && !said.contains("198.51.100.0"), "{what}");
        }
    }
    let trail = sandbox.api(&["list_audit"]);
    let name = who.replace(':', " ");
    let own = trail.as_array().unwrap().iter().filter(|row| row["who"] == name.as_str()).count();
    assert!(own >= 3, "{trail}");
    // For the administrator every one of them works on everything.
    let of_otto = sandbox.api(&["list_activity", "account=alice@otto.test"]);
    assert_eq!(of_otto.as_array().map(Vec::len), Some(1), "{of_otto}");
    sandbox.api(&["release_block", "value=set-blocked@ann.test"]);
}

#[test]
fn each_function_for_a_reseller_works_on_what_is_his_or_is_refused() {
    check("reseller:rex", "reseller");
}

#[test]
fn each_function_for_an_owner_works_on_what_is_his_or_is_refused() {
    check("owner:ann", "owner");
}

#[test]
fn a_list_with_a_limit_shows_an_owner_his_rows_however_many_of_others_are_newer() {
    let sandbox = Sandbox::new().countries("DE");
    cpanel(&sandbox);
    assert!(sandbox.mail("alice@ann.test", AMERICAN).starts_with("deny"));
    for n in 0..5 {
        sandbox.wait(1);
        assert!(sandbox.mail(&format!("x{n}@otto.test"), AMERICAN).starts_with("deny"));
    }
    let shown = call_as(&sandbox, "owner:ann", &["list_activity", "limit=1"]);
    assert_eq!(shown["data"][0]["account"], "alice@ann.test", "{shown}");
    // A reference that a stranger's client was told finds nothing.
    let of_otto =
        sandbox.api(&["list_activity", "account=x1@otto.test"])[0]["reference"].as_str().unwrap().to_owned();
    let found = call_as(&sandbox, "owner:ann", &["list_activity", &format!("reference={of_otto}")]);
    assert_eq!(found["data"], serde_json::json!([]), "{found}");
}

#[test]
fn a_reseller_imports_what_is_his_alone_and_a_line_about_others_is_a_bad_one() {
    let sandbox = Sandbox::new();
    cpanel(&sandbox);
    let import = |who: &str, words: &[&str]| call_as(&sandbox, who, words);
    let before = snapshot(&sandbox);
    let mixed = "entries=a@ann.test\nb@otto.test\notto\n192.0.2.7\n";
    let dated = "entries=for,from,until\na@ann.test,FR,2027-01-01\notto.test,FR,2027-01-01\n";
    for (words, bad) in [
        (["import_user_exemptions", mixed], 3),
        (["import_blocks", mixed], 3),
        (["import_allowances", dated], 1),
    ] {
        let answer = import("reseller:rex", &words);
        assert_eq!(
            (&answer["status"], &answer["metadata"]["code"]),
            (&0.into(), &"refused".into()),
            "{answer}"
        );
        assert_eq!(answer["data"]["bad"].as_array().map(Vec::len), Some(bad), "{answer}");
        refused(&import("owner:ann", &words), "an owner imports nothing");
    }
    for words in [["import_whitelist", "entries=a@ann.test"], ["import_ip_exemptions", "entries=192.0.2.7"]] {
        refused(&import("reseller:rex", &words), "the server's lists");
    }
    assert_eq!(snapshot(&sandbox), before);
    for (list, words) in [
        ("list_user_exemptions", ["import_user_exemptions", mixed, "on_bad=keep"]),
        ("list_blocks", ["import_blocks", mixed, "on_bad=keep"]),
    ] {
        allowed(&import("reseller:rex", &words), "the good ones");
        let rows = sandbox.api(&[list]);
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
        assert!(rows[0]["who"] == "reseller rex" || rows[0]["by"] == "reseller rex", "{rows}");
    }
}

/// Ranks stay what they are, whatever way the settings take.
#[test]
fn whose_an_entry_is_survives_export_apply_undo_backup_and_restore() {
    let sandbox = Sandbox::new();
    cpanel(&sandbox);
    for words in [
        &["add_user_exemption", "value=alice@ann.test"][..],
        &["set_countries", "for=bob@ann.test", "countries=FR"],
        &["add_allowance", "for=alice@ann.test", "from=BR", "until=7d"],
        &["add_block", "value=bad@ann.test"],
    ] {
        allowed(&call_as(&sandbox, "reseller:rex", words), &format!("{words:?}"));
    }
    sandbox.api(&["set_countries", "for=carol@ann.test", "countries=FR"]);
    let is_rexs = |what: &str| {
        for (list, who) in
            [("list_user_exemptions", "who"), ("list_allowances", "who"), ("list_blocks", "by")]
        {
            assert_eq!(sandbox.api(&[list])[0][who], "reseller rex", "{what}: {list}");
        }
        let set = |of: &str| {
            let subject = format!("for={of}@ann.test");
            call_as(&sandbox, "reseller:rex", &["set_countries", &subject, "countries=FR"])
        };
        allowed(&set("bob"), what);
        refused(&set("carol"), what);
    };
    is_rexs("at first");
    let document = sandbox.postern(&["config", "export"]).succeeded();
    let file = sandbox.path("policy.json");
    fs::write(&file, document).unwrap();
    let applied = sandbox.api(&["apply_config", &format!("file={}", file.display())]);
    assert_eq!(applied["changed"], false, "{applied}");
    is_rexs("after export and apply");
    let backup = sandbox.path("backup.tar");
    sandbox.postern(&["backup", backup.to_str().unwrap()]).succeeded();
    sandbox.api(&["set_countries", "for=bob@ann.test", "countries=BR"]);
    sandbox.api(&["add_user_exemption", "value=alice@ann.test", "note=root's"]);
    refused(&call_as(&sandbox, "reseller:rex", &["remove_user_exemption", "value=alice@ann.test"]), "root's");
    sandbox.api(&["undo"]);
    sandbox.api(&["undo"]);
    is_rexs("after undo");
    sandbox.api(&["set_countries", "for=bob@ann.test", "countries=BR"]);
    sandbox.api(&["add_user_exemption", "value=alice@ann.test", "note=root's"]);
    sandbox.postern(&["restore", backup.to_str().unwrap(), "--confirm"]).succeeded();
    is_rexs("after restore");
}

#[test]
fn a_story_is_told_to_whose_it_is_with_what_changed_about_his_own() {
    let sandbox = Sandbox::new().countries("DE");
    cpanel(&sandbox);
    for account in ["alice@ann.test", "bob@otto.test"] {
        assert!(sandbox.mail(account, AMERICAN).starts_with("deny"));
    }
    sandbox.wait(60);
    for change in [
        ["add_user_exemption", "value=alice@ann.test"],
        ["add_user_exemption", "value=bob@otto.test"],
        ["add_ip_exemption", "value=203.0.113.9"],
    ] {
        sandbox.api(&change);
    }
    let reference = |account: &str| {
        let rows = sandbox.api(&["list_activity", &format!("account={account}")]);
        format!("reference={}", rows[0]["reference"].as_str().unwrap())
    };
    let told = call_as(&sandbox, "owner:ann", &["tell_story", &reference("alice@ann.test")]);
    allowed(&told, "ann's own");
    let changed = told["data"]["changed"].to_string();
    assert!(changed.contains("add_user_exemption alice@ann.test by root"), "{changed}");
    assert!(changed.contains("The administrator changed what holds for the whole server."), "{changed}");
    assert!(!changed.contains("otto") && !changed.contains("203.0.113.9"), "{changed}");
    let foreign = call_as(&sandbox, "owner:ann", &["tell_story", &reference("bob@otto.test")]);
    let unknown = call_as(&sandbox, "owner:ann", &["tell_story", "reference=7K3M-92QX"]);
    for answer in [&foreign, &unknown] {
        assert_eq!(answer["metadata"]["code"], "not_found", "{answer}");
    }
    let of_root = sandbox.api(&["tell_story", &reference("bob@otto.test")]);
    assert!(of_root["changed"].to_string().contains("add_ip_exemption 203.0.113.9"), "{of_root}");
}

#[test]
fn what_a_reseller_set_an_owner_cannot_lift_and_the_administrator_can() {
    let sandbox = Sandbox::new().setting("owner_release", "on").setting("owner_allowances", "on");
    cpanel(&sandbox);
    allowed(&call_as(&sandbox, "reseller:rex", &["add_block", "value=alice@ann.test"]), "rex blocks");
    allowed(
        &call_as(&sandbox, "reseller:rex", &["add_allowance", "for=bob@ann.test", "from=BR", "until=99d"]),
        "rex allows",
    );
    let before = snapshot(&sandbox);
    refused(&call_as(&sandbox, "owner:ann", &["release_block", "value=alice@ann.test"]), "ann releases");
    refused(&call_as(&sandbox, "owner:ann", &["remove_allowance", "id=1"]), "ann ends");
    assert_eq!(snapshot(&sandbox), before);
    allowed(&call_as(&sandbox, "reseller:rex", &["release_block", "value=alice@ann.test"]), "rex releases");
    allowed(&call_as(&sandbox, "root:helper", &["remove_allowance", "id=1"]), "root ends");
    assert_eq!(sandbox.api(&["list_audit", "limit=1"])[0]["who"], "root (helper)");
}

#[test]
fn what_the_administrator_set_binds_nobody_once_it_has_ended() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    cpanel(&sandbox);
    let account = "alice@ann.test";
    let value = format!("value={account}");
    sandbox.sends_freely(account, 1);
    assert!(sandbox.send(account).starts_with("defer"));
    for function in ["add_user_exemption", "add_block"] {
        sandbox.api(&[function, &value, "until=1h"]);
    }
    let rex = |words: &[&str]| call_as(&sandbox, "reseller:rex", words);
    refused(&rex(&["release_block", &value]), "while it holds");
    refused(&rex(&["add_user_exemption", &value]), "while it holds");
    sandbox.wait(3600);
    allowed(&rex(&["release_block", &value]), "the limiter's stop");
    assert_eq!(sandbox.api(&["list_blocks"]), serde_json::json!([]));
    let again = sandbox.postern(&["blocks", "release", account]).failed();
    assert!(again.contains("is not blocked"), "{again}");
    let exempt = rex(&["add_user_exemption", &value]);
    allowed(&exempt, "an exemption in the place of one that has ended");
    assert!(!exempt.to_string().contains("was lifted"), "{exempt}");
    allowed(&rex(&["add_block", &value]), "a block in the place of one that has ended");
}

#[test]
fn the_administrators_networks_are_not_named_to_others() {
    let sandbox = Sandbox::new().countries("DE").blocked("203.0.113.0/24").exempt_ip("198.51.100.0/24");
    cpanel(&sandbox);
    let explain = |who: &str, address: &str| {
        let address = format!("address={address}");
        let answer = call_as(&sandbox, who, &["explain", "account=alice@ann.test", &address]);
        allowed(&answer, who);
        answer.to_string()
    };
    assert!(sandbox.mail("alice@ann.test", FRENCH).starts_with("deny"));
    let reference = sandbox.api(&["list_activity"])[0]["reference"].as_str().unwrap().to_owned();
    let story = |who: &str| {
        let answer = call_as(&sandbox, who, &["tell_story", &format!("reference={reference}")]);
        allowed(&answer, who);
        answer.to_string()
    };
    for who in ["owner:ann", "reseller:rex"] {
        for (told, reason) in [
            (explain(who, AMERICAN), "ip_exempt"),
            (explain(who, FRENCH), "address_blocked"),
            (story(who), "address_blocked"),
            (call_as(&sandbox, who, &["list_activity"]).to_string(), "address_blocked"),
        ] {
            assert!(
                told.contains(reason) && !told.contains("100.0/24") && !told.contains("113.0/24"),
                "{told}"
            );
        }
    }
    assert!(explain("root:x", AMERICAN).contains("198.51.100.0/24"));
    assert!(explain("root:x", FRENCH).contains("203.0.113.0/24"));
    assert!(story("root:x").contains("203.0.113.0/24"));
}

#[test]
fn the_administrator_is_told_what_others_set_before_that_goes_round_his_list() {
    let sandbox = Sandbox::new();
    cpanel(&sandbox);
    for words in [
        &["set_countries", "for=carol@ann.test", "countries=BR"][..],
        &["add_user_exemption", "value=dora@ann.test"],
        &["add_user_exemption", "value=old@ann.test", "until=1h"],
        &["add_allowance", "for=ann.test", "from=FR", "until=9d"],
        &["add_user_exemption", "value=rex.test"],
    ] {
        allowed(&call_as(&sandbox, "reseller:rex", words), "before");
    }
    sandbox.api(&["add_user_exemption", "value=mine@ann.test"]);
    sandbox.wait(7200);
    let said = sandbox.postern(&["countries", "set", "DE", "--for", "ann.test"]);
    let told = "holds still: allowance of ann.test (reseller rex), countries of carol@ann.test (reseller rex), exemption of dora@ann.test (reseller rex). Remove it";
    assert!(said.err.contains(told), "{said:?}");
    let of_mailbox = sandbox.postern(&["countries", "set", "DE", "--for", "eve@ann.test"]);
    assert!(of_mailbox.err.contains("holds still: allowance of ann.test (reseller rex)."), "{of_mailbox:?}");
    let by_rex = call_as(&sandbox, "reseller:rex", &["set_countries", "for=rex.test", "countries=DE"]);
    assert_eq!(by_rex["warnings"], Value::Null, "{by_rex}");
}

#[test]
fn what_the_administrator_noted_for_himself_is_shown_to_nobody_else() {
    const SECRET: &str = "abuse case 4711, told by the bank";
    let sandbox = Sandbox::new();
    cpanel(&sandbox);
    let note = format!("note={SECRET}");
    sandbox.api(&["add_block", "value=a@ann.test", &note]);
    sandbox.api(&["add_user_exemption", "value=b@ann.test", &note]);
    sandbox.api(&["add_allowance", "for=c@ann.test", "from=BR", "until=7d", &note]);
    allowed(&call_as(&sandbox, "reseller:rex", &["add_block", "value=d@ann.test", "note=told"]), "his own");
    for who in ["reseller:rex", "owner:ann"] {
        let blocks = call_as(&sandbox, who, &["list_blocks"]);
        assert_eq!(blocks["data"][0]["why"], "The administrator blocked it.", "{blocks}");
        assert_eq!(blocks["data"][1]["why"], "told", "{blocks}");
        for list in [
            "list_user_exemptions",
            "list_allowances",
            "export_blocks",
            "export_user_exemptions",
            "export_allowances",
        ] {
            let said = call_as(&sandbox, who, &[list]).to_string();
            assert!(!said.contains("4711"), "{who} {list}: {said}");
        }
    }
    assert_eq!(sandbox.api(&["list_blocks"])[0]["why"], SECRET);
}
