//! Notices: one by one and in a digest, by mail, a web server and a program, each at its own pace; to owners.

use crate::publisher::{Certificate, Publisher, Reply};
use crate::sandbox::*;
use hmac::{Hmac, Mac};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

const ALICE: &str = "alice@example.test";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const MINUTE: i64 = 60;

/// A server on which the second message stops an account, and whose sendmail keeps what it takes.
fn scene() -> Sandbox {
    let sandbox = Sandbox::new()
        .setting("rate_limit_messages", "1")
        .setting("administration_email_address", "admin@example.test");
    sendmail(&sandbox);
    sandbox
}

fn sendmail(sandbox: &Sandbox) {
    let (program, mails) = (sandbox.path("usr/sbin/sendmail"), sandbox.path("mails"));
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let _ = fs::create_dir(&mails);
    sandbox.give(&mails, POSTERN);
    let script = format!("#!/bin/sh\necho \"for $5\" > {0}/$$\nexec /bin/cat >> {0}/$$\n", mails.display());
    sandbox.install(&program, &script);
}

/// The mails since the last time.
fn mails(sandbox: &Sandbox) -> Vec<String> {
    let all = fs::read_dir(sandbox.path("mails")).unwrap().map(|e| e.unwrap().path());
    let read = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        fs::remove_file(path).unwrap();
        text
    };
    let mut mails: Vec<_> = all.map(|path| read(&path)).collect();
    mails.sort();
    mails
}

/// Stops an account by real messages.
fn stop(sandbox: &Sandbox, account: &str) {
    sandbox.send(account);
    assert!(sandbox.send(account).starts_with("defer 451"), "{account}");
}

/// A tick of which nothing must fail.
fn tick(sandbox: &Sandbox) {
    sandbox.postern(&["tick", "--verbose"]).succeeded();
}

/// A file of root's in /etc/postern.
fn of_root(sandbox: &Sandbox, name: &str, text: &str) {
    let path = sandbox.path("etc/postern").join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.give(&path, 0);
}

fn webhook(sandbox: &Sandbox, url: &str) {
    of_root(sandbox, "webhook.json", &serde_json::json!({ "url": url, "secret": SECRET }).to_string());
}

/// A server that trusts a receiver; the webhook leads to it.
fn with_receiver() -> (Sandbox, Publisher) {
    let (sandbox, receiver) = (scene(), Publisher::new());
    trust(&sandbox, &receiver);
    receiver.answers("/hook", Reply::status(204));
    webhook(&sandbox, &receiver.url("/hook"));
    tick(&sandbox);
    (sandbox, receiver)
}

fn trust(sandbox: &Sandbox, receiver: &Publisher) {
    let file = sandbox.path("etc/ssl/certs/ca-certificates.crt");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, receiver.authority()).unwrap();
}

/// What was posted, with signatures that are true.
fn received(receiver: &Publisher) -> Vec<Value> {
    let check = |(head, body): (String, String)| {
        let header = |name: &str| {
            let found = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.unwrap_or_else(|| panic!("{name} in {head}")).to_owned()
        };
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{}.{body}", header("postern-timestamp")).as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(header("postern-signature"), format!("v1={hex}"));
        assert_eq!(header("content-type"), "application/json");
        serde_json::from_str(&body).unwrap()
    };
    receiver.posted().into_iter().map(check).collect()
}

fn accounts(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["account"].as_str().unwrap()).collect()
}

#[test]
fn a_flood_of_refused_messages_is_one_notice_and_one_digest_and_says_what_fell_off() {
    let sandbox = scene().setting("notices_an_hour", "1");
    stop(&sandbox, ALICE);
    tick(&sandbox);
    let first = mails(&sandbox);
    assert_eq!(first.len(), 1);
    assert!(first[0].contains("Subject: Postern stopped alice@example.test from sending"), "{}", first[0]);
    for part in [
        "What happened: More than 1 messages",
        "To whom: alice",
        "Since: ",
        "What Postern did: ",
        "What to do next: ",
    ] {
        assert!(first[0].contains(part), "{part}: {}", first[0]);
    }
    assert!(first[0].contains("\n    postern blocks release alice@example.test "), "{}", first[0]);
    // Refused again and again, it is told no more; others are gathered.
    (0..20).for_each(|_| assert!(sandbox.send(ALICE).starts_with("defer 451")));
    (0..9).for_each(|n| stop(&sandbox, &format!("user{n}@example.test")));
    let mut db = rusqlite::Connection::open(sandbox.state()).unwrap();
    let t = db.transaction().unwrap();
    for n in 0..12_000 {
        let sql = "INSERT INTO notice(at, kind, account, detail) VALUES (?1, 'stopped', ?2, 'More than 1 message.')";
        t.execute(sql, (sandbox.now() + 5, format!("flood{}@example.test", n % 6000))).unwrap();
    }
    t.commit().unwrap();
    drop(db);
    // The next that a hook queues brings them to the cap.
    stop(sandbox.wait(10), "last@example.test");
    for _ in 0..5 {
        tick(sandbox.wait(10 * MINUTE));
        assert_eq!(mails(&sandbox), Vec::<String>::new());
    }
    let (state, says) = sandbox.status_of("notices").unwrap();
    assert!(state == "good" && says.starts_with("10000 are gathered for a digest"), "{says}");
    tick(sandbox.wait(10 * MINUTE));
    let digest = mails(&sandbox);
    assert_eq!(digest.len(), 1);
    let text = &digest[0];
    assert!(text.contains("Subject: Postern: 12010 more events, 6001 accounts"), "{text}");
    assert!(text.contains("   10000  stopped from sending (6001 accounts)"), "{text}");
    assert!(text.contains("    2010  not known any more") && text.contains(", 2 times, "), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("    flood")).count(), 20);
    assert!(text.contains("    and 5981 more\n") && text.contains("postern blocks list"), "{text}");
    for _ in 0..7 {
        tick(sandbox.wait(20 * MINUTE));
    }
    assert_eq!(mails(&sandbox), Vec::<String>::new());
    stop(&sandbox, "bob@example.test");
    tick(&sandbox);
    assert_eq!(mails(&sandbox).len(), 1);
}

#[test]
fn a_receiver_that_is_slow_down_or_lies_loses_nothing_and_delays_no_mail() {
    let (sandbox, receiver) = with_receiver();
    let foreign = Publisher::with(Certificate::OfAnother);
    let beside = Publisher::new();
    beside.answers("/", Reply::status(200));
    let long = |head: &str| Reply::Endless(head.as_bytes().to_vec(), vec![b'x'; 1 << 16], Duration::ZERO);
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
    let slow =
        Reply::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".to_vec(), Duration::from_millis(900));
    let cases = [
        (Some(Reply::status(500)), "500"),
        (Some(Reply::status(404)), "404"),
        (Some(Reply::leads_to(&beside.url("/"))), "leads elsewhere"),
        (Some(long(ok)), "longer than 64 KB"),
        (Some(Reply::Raw(b"\0\x01garbage".to_vec())), "did not take"),
        (Some(Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nhalf".to_vec())), "did not take"),
        (Some(slow), "within 10 seconds"),
        (None, "cannot be believed"),
    ];
    let mut names = Vec::new();
    for (n, (reply, why)) in cases.into_iter().enumerate() {
        match reply {
            Some(reply) => receiver.answers("/hook", reply),
            None => webhook(&sandbox, &foreign.url("/hook")),
        }
        let account = format!("user{n}@example.test");
        stop(sandbox.wait(31 * MINUTE), &account);
        // Nothing of ours failed: within an hour that is the receiver's affair.
        let said = sandbox.postern(&["tick", "--verbose"]);
        assert!(format!("{}{}", said.out, said.err).contains(why), "{why}: {said:?}");
        let mails = mails(&sandbox);
        assert!(mails.len() == 1 && mails[0].contains(&account), "{why}: {mails:?}");
        names.push(account);
    }
    let (state, says) = sandbox.status_of("notices by webhook").unwrap();
    assert!(
        state == "TROUBLE" && says.contains("8 wait") && says.contains("cannot be believed"),
        "{state} {says}"
    );
    let listed = sandbox.api(&["list_notices"]);
    assert_eq!(listed["waiting"].as_array().unwrap().len(), 8, "{listed}");
    assert_eq!(listed["waiting"][0]["waits_for"], "webhook");
    // It is there again, and gets everything: what is old in a digest, what is new by itself.
    receiver.posted();
    receiver.answers("/hook", Reply::status(200));
    webhook(&sandbox, &receiver.url("/hook"));
    sandbox.postern(&["trouble", "clear"]).succeeded();
    tick(sandbox.wait(31 * MINUTE));
    let got = received(&receiver);
    assert_eq!((got[0]["event"].as_str(), got[0]["count"].as_i64()), (Some("digest"), Some(7)), "{got:?}");
    let mut told: Vec<_> = got[0]["digest"]["first"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["account"].as_str().unwrap())
        .collect();
    told.extend(accounts(&got[1..]));
    assert_eq!(told, names);
    assert!(beside.posted().is_empty() && foreign.posted().is_empty());
    assert_eq!(sandbox.status_of("notices by webhook").unwrap().0, "good");
    tick(sandbox.wait(31 * MINUTE));
    assert!(received(&receiver).is_empty() && mails(&sandbox).is_empty());
}

#[test]
fn mail_that_is_not_taken_waits_while_the_webhook_goes_on() {
    let (sandbox, receiver) = with_receiver();
    fs::remove_file(sandbox.path("usr/sbin/sendmail")).unwrap();
    stop(&sandbox, ALICE);
    sandbox.postern(&["tick"]).failed();
    let got = received(&receiver);
    assert_eq!(
        (got.len(), got[0]["event"].as_str(), got[0]["kind"].as_str()),
        (1, Some("notice"), Some("stopped"))
    );
    assert_eq!(got[0]["since"], sandbox.now());
    assert!(
        got[0]["commands"][0]["command"].as_str().unwrap().starts_with("postern blocks release alice@"),
        "{got:?}"
    );
    sandbox.is_in_trouble("notice");
    sendmail(&sandbox);
    tick(sandbox.wait(MINUTE));
    assert_eq!((mails(&sandbox).len(), received(&receiver).len()), (1, 0));
}

#[test]
fn after_many_failures_a_channel_is_asked_less_often() {
    let (sandbox, receiver) = with_receiver();
    receiver.answers("/hook", Reply::status(503));
    stop(&sandbox, ALICE);
    (0..50).for_each(|_| tick(sandbox.wait(MINUTE)));
    let asked = receiver.posted();
    assert!((8..13).contains(&asked.len()), "{}", asked.len());
    assert!(asked.iter().all(|(_, body)| *body == asked[0].1), "it is known again by what it is");
}

#[test]
fn this_machine_itself_may_be_told_without_tls_and_others_may_not() {
    let sandbox = scene();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    webhook(&sandbox, &format!("http://{}/x", listener.local_addr().unwrap()));
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        let mut part = [0; 4096];
        while !text.ends_with(b"}") {
            let n = stream.read(&mut part).unwrap();
            text.extend_from_slice(&part[..n]);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
        String::from_utf8(text).unwrap()
    });
    let said = sandbox.postern(&["notices", "test"]).succeeded();
    assert!(said.contains("mail: it was taken.") && said.contains("webhook: it was taken."), "{said}");
    let heard = answering.join().unwrap();
    assert!(heard.starts_with("POST /x HTTP/1.1\r\n") && heard.contains("\"event\":\"test\""), "{heard}");
    assert!(mails(&sandbox)[0].contains("Subject: Postern: a test of its notices"));
    webhook(&sandbox, "http://hooks.example.org/");
    let said = sandbox.postern(&["notices", "test"]).failed();
    assert!(said.contains("must begin with https://"), "{said}");
    sandbox.is_in_trouble("notices by webhook");
}

/// A program of root's that writes down what it is.
fn command(sandbox: &Sandbox, script: &str) {
    let folder = sandbox.path("told");
    let _ = fs::create_dir(&folder);
    sandbox.give(&folder, POSTERN);
    sandbox.install(
        &sandbox.path("usr/local/bin-tell"),
        &format!("#!/bin/sh\ncd {}\n{script}\n", folder.display()),
    );
    of_root(sandbox, "notice-command", "/usr/local/bin-tell\n--to\nall of them; $(id)\n");
}

#[test]
fn a_command_is_run_as_postern_without_shell_or_environment_and_gets_the_notice() {
    let sandbox = scene();
    fs::create_dir_all(sandbox.path("usr/local")).unwrap();
    command(&sandbox, "/usr/bin/id -u > who; echo \"$#|$1|$2\" > words; /usr/bin/env > env; /bin/cat > text");
    stop(&sandbox, "before@example.test");
    tick(&sandbox);
    stop(&sandbox, ALICE);
    tick(&sandbox);
    let told = |name: &str| fs::read_to_string(sandbox.path("told").join(name)).unwrap();
    assert_eq!((told("who").trim(), told("words").trim()), ("61000", "2|--to|all of them; $(id)"));
    let env = told("env");
    assert!(!env.contains("HOME=") && env.lines().count() <= 5, "{env}");
    let event: Value = serde_json::from_str(&told("text")).unwrap();
    assert_eq!((event["account"].as_str(), event["postern"].as_i64()), (Some(ALICE), Some(1)));
    assert_eq!(mails(&sandbox).len(), 2);
}

#[test]
fn a_command_that_fails_or_hangs_is_ended_and_the_notice_waits_for_it_alone() {
    let sandbox = scene();
    fs::create_dir_all(sandbox.path("usr/local")).unwrap();
    command(&sandbox, "exit 3");
    tick(&sandbox);
    stop(&sandbox, ALICE);
    let said = sandbox.postern(&["tick", "--verbose"]).succeeded();
    assert!(said.contains("exit status: 3") && mails(&sandbox).len() == 1, "{said}");
    command(&sandbox, "echo $$ > pid; /bin/sleep 600 & echo $! > heir; wait");
    let said = sandbox.wait(MINUTE).postern(&["tick", "--verbose"]).succeeded();
    assert!(said.contains("within 10 seconds and was ended"), "{said}");
    for name in ["pid", "heir"] {
        let pid = fs::read_to_string(sandbox.path("told").join(name)).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{name}: {state}");
    }
    let (state, says) = sandbox.status_of("notices by command").unwrap();
    assert!(state == "warning" && says.contains("1 wait"), "{state} {says}");
    command(&sandbox, "/bin/cat > text");
    tick(sandbox.wait(MINUTE));
    assert!(fs::read_to_string(sandbox.path("told/text")).unwrap().contains(ALICE));
    assert_eq!(sandbox.status_of("notices by command").unwrap().0, "good");
}

#[test]
fn what_others_could_have_written_is_neither_run_nor_connected_to() {
    let sandbox = scene();
    fs::create_dir_all(sandbox.path("usr/local")).unwrap();
    command(&sandbox, "echo x >> ran");
    let file = sandbox.path("etc/postern/notice-command");
    let good = fs::read(&file).unwrap();
    let elsewhere = sandbox.path("elsewhere");
    fs::write(&elsewhere, &good).unwrap();
    let again = || {
        let _ = fs::remove_file(&file);
        fs::write(&file, &good).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    };
    tick(&sandbox);
    let bad: [(&str, &dyn Fn()); 5] = [
        ("others", &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o646)).unwrap()),
        ("its group", &|| fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap()),
        ("postern's", &|| sandbox.give(&file, POSTERN)),
        ("a link", &|| {
            fs::remove_file(&file).unwrap();
            symlink(&elsewhere, &file).unwrap();
        }),
        ("relative", &|| fs::write(&file, "usr/local/bin-tell\n").unwrap()),
    ];
    for (n, (name, make)) in bad.into_iter().enumerate() {
        again();
        make();
        stop(&sandbox, &format!("user{n}@example.test"));
        sandbox.postern(&["tick"]);
        assert!(!sandbox.path("told/ran").exists(), "{name}");
        sandbox.is_in_trouble("notices by command");
    }
    again();
    sandbox.postern(&["trouble", "clear"]).succeeded();
    tick(sandbox.wait(31 * MINUTE));
    let ran = fs::read_to_string(sandbox.path("told/ran")).unwrap();
    assert_eq!(ran.lines().count(), 5, "what happened meanwhile waited");
    // A secret that everybody can read signs nothing.
    webhook(&sandbox, "https://127.0.0.1:1/");
    fs::set_permissions(sandbox.path("etc/postern/webhook.json"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(sandbox.postern(&["notices", "test"]).failed().contains("chmod 600"));
}

#[test]
fn without_an_address_notices_wait_and_status_is_in_trouble() {
    let sandbox = scene().setting("administration_email_address", "");
    stop(&sandbox, ALICE);
    tick(&sandbox);
    assert_eq!(mails(&sandbox).len(), 0);
    sandbox.is_in_trouble("notices");
    let sandbox = sandbox.setting("administration_email_address", "admin@example.test");
    tick(&sandbox);
    assert_eq!(mails(&sandbox).len(), 1);
    assert_eq!(sandbox.status_of("notices").unwrap().0, "good");
}

#[test]
fn a_state_that_mail_users_have_forged_executes_nothing_and_stops_no_notice() {
    let (sandbox, receiver) = with_receiver();
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    db.execute_batch(
        "INSERT INTO notice(at, kind, account, detail) VALUES ('x', x'ff', x'fe', x'fd');
         INSERT INTO notice_channel(channel, base, taken, memory) VALUES ('command', 0, 0, '{\"program\":\"/bin/sh\"}');
         UPDATE notice_channel SET memory = '{\"next\": 99999999999, \"hour\": 99999999999}' WHERE channel = 'mail';",
    )
    .unwrap();
    stop(&sandbox, ALICE);
    tick(&sandbox);
    assert_eq!(accounts(&received(&receiver)), [ALICE]);
    assert_eq!(mails(&sandbox).len(), 1, "a rest is half an hour at most");
}

#[test]
fn an_owner_is_told_elsewhere_once_an_hour_and_by_no_mailbox_that_may_be_a_thiefs() {
    let sandbox = scene().setting("notify_owners", "on");
    let owners = sandbox.path("etc/postern/owners");
    fs::write(
        &owners,
        "example.test: ann\nown.test: ben\nlost.test: cid\nstopped.test: dan\nann: ann@elsewhere.test\nben: ben@own.test\ndan: eve@elsewhere.test\n",
    )
    .unwrap();
    tick(&sandbox);
    for account in [
        ALICE,
        "carol@example.test",
        "x@own.test",
        "x@lost.test",
        "eve@elsewhere.test",
        "x@stopped.test",
        "x@foreign.test",
    ] {
        stop(&sandbox, account);
    }
    tick(&sandbox);
    let to_owners =
        || mails(&sandbox).into_iter().filter(|mail| !mail.starts_with("for admin@")).collect::<Vec<_>>();
    let told = to_owners();
    assert_eq!(told.len(), 1, "{told:?}");
    let mail = &told[0];
    assert!(mail.starts_with("for ann@elsewhere.test\nTo: ann@elsewhere.test\nSubject: Mail of 2 of your accounts is held back\n"), "{mail}");
    assert!(
        mail.contains(ALICE) && mail.contains("carol@example.test") && mail.contains("admin@example.test"),
        "{mail}"
    );
    assert!(!mail.contains("postern "), "{mail}");
    stop(&sandbox, "dora@example.test");
    tick(sandbox.wait(30 * MINUTE));
    assert_eq!(to_owners(), Vec::<String>::new());
    tick(sandbox.wait(30 * MINUTE));
    let told = to_owners();
    assert!(told.len() == 1 && told[0].contains("dora@example.test") && !told[0].contains(ALICE), "{told:?}");
    // Records that cannot be believed tell nobody, and nothing is lost.
    fs::set_permissions(&owners, fs::Permissions::from_mode(0o666)).unwrap();
    stop(&sandbox, "emil@example.test");
    sandbox.wait(61 * MINUTE).postern(&["tick"]);
    assert_eq!(to_owners(), Vec::<String>::new());
    assert_eq!(sandbox.status_of("notices by owner").unwrap().0, "warning");
    fs::set_permissions(&owners, fs::Permissions::from_mode(0o644)).unwrap();
    tick(sandbox.wait(MINUTE));
    assert!(to_owners()[0].contains("emil@example.test"));
}

#[test]
fn on_cpanel_an_owner_is_told_where_the_panel_reaches_him() {
    let sandbox = scene().setting("notify_owners", "on");
    let file = |name: &str, text: &str| {
        let path = sandbox.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    fs::create_dir_all(sandbox.path("usr/local/cpanel")).unwrap();
    file("etc/userdomains", "example.test: ann\n*: nobody\n");
    file("etc/trueuserdomains", "example.test: ann\n");
    file("etc/trueuserowners", "ann: root\n");
    file("var/cpanel/users/ann", "BWLIMIT=unlimited\nCONTACTEMAIL=ann@elsewhere.test\nCONTACTEMAIL2=\n");
    tick(&sandbox);
    stop(&sandbox, ALICE);
    tick(&sandbox);
    let mails = mails(&sandbox);
    assert!(mails.len() == 2 && mails[1].starts_with("for ann@elsewhere.test\n"), "{mails:?}");
    assert!(mails[1].contains("Subject: Mail of alice@example.test is held back"), "{mails:?}");
}
