//! Who asks is proven by a panel's root helper and by nobody else; what is whose stands in the panel's records.

use crate::sandbox::*;
use crate::scopes::{allowed, call_as, cpanel, refused, snapshot};
use postern::door::line::question;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

fn scene() -> Sandbox {
    let sandbox = Sandbox::new().countries("DE").blocked("alice@ann.test");
    cpanel(&sandbox);
    sandbox
}

#[test]
fn nobody_but_root_asks_for_others() {
    let sandbox = scene();
    let before = snapshot(&sandbox);
    for user in [THIEF, EXIM, DOVECOT, POSTERN] {
        for who in ["root:x", "reseller:rex", "owner:ann"] {
            for words in [
                &["--as", who, "api", "list_blocks"][..],
                &["api", "--as", who, "list_blocks"],
                &["--as", who, "api", "release_block", "value=alice@ann.test"],
            ] {
                let answer = sandbox.postern_as(user, words).json();
                refused(&answer, &format!("{user} {words:?}"));
                assert!(answer.to_string().contains("from root alone"), "{answer}");
            }
            let said = sandbox.postern_as(user, &["--as", who, "blocks", "list"]).failed();
            assert!(said.contains("from root alone"), "{said}");
        }
        // After the function's name it is an argument, or the same option.
        let ran = sandbox.postern_as(user, &["api", "release_block", "value=alice@ann.test", "--as=root:x"]);
        assert_eq!(ran.json()["status"], 0, "{ran:?}");
    }
    assert_eq!(snapshot(&sandbox), before);
}

#[test]
fn a_program_with_borrowed_authority_asks_for_nobody() {
    let sandbox = scene();
    let copy = sandbox.path("set-user-id-postern");
    sandbox.copy_program(&sandbox.path("bin/postern"), &copy);
    fs::set_permissions(&copy, Permissions::from_mode(0o4755)).unwrap();
    let mut command = Command::new(&copy);
    command.args(["--as", "owner:ann", "api", "known_countries"]);
    let answer = sandbox.run_as(&mut command, THIEF).json();
    refused(&answer, "set-user-ID root");
    assert!(answer.to_string().contains("from root alone"), "{answer}");
}

#[test]
fn words_after_the_helpers_own_cannot_change_who_asks() {
    let sandbox = scene();
    let before = snapshot(&sandbox);
    for words in [
        &["--as", "owner:ann", "api", "--as", "root:x", "release_block", "value=alice@ann.test"][..],
        &["--as", "owner:ann", "api", "--as=root:x", "release_block"],
        &["--as", "owner:ann", "api", "release_block", "value=alice@ann.test", "--as=root:x"],
        &["--as", "owner:ann", "api", "release_block", "value=alice@ann.test", "--as", "root:x"],
        &["api", "--as", "owner:ann", "release_block", "value=alice@ann.test", "--as=root:x"],
        &["api", "--as", "owner:ann", "release_block", "value=alice@ann.test", "--", "--as=root:x"],
        &["--as", "owner:ann", "--as", "root:x", "api", "release_block", "value=alice@ann.test"],
        &["--as", "owner:ann", "api", "release_block", "value=alice@ann.test", "as=root:x"],
        &["--as", "owner:ann", "api", "release_block", "value=alice@ann.test", "--root=/"],
        &["--as", "owner:ann", "keeper", "--prepare"],
        &["--as", "owner:ann", "settings", "set", "country_rule", "off"],
        &["--as", "owner:ann", "man", "/nonexistent"],
        &["--as", "owner:ann", "completions", "bash"],
        &["--as", "owner:ann", "api", "--openapi"],
        &["--as", "owner:ann", "status", "--format", "nagios"],
        &["--as", "owner:ann", "backup", "/nonexistent/backup"],
        &["--as", "owner:ann", "restore", "/nonexistent/backup", "--confirm"],
        &["--as", "owner:ann", "config", "export"],
        &["--as", "owner:ann", "undo"],
        &["--as", "owner:ann", "countries", "suggest"],
        &["--as", "owner:", "api", "list_blocks"],
        &["--as", "", "api", "list_blocks"],
        &["--as", "admin:x", "api", "list_blocks"],
    ] {
        let ran = sandbox.postern(words);
        assert!(ran.status.is_some_and(|status| status > 0), "{words:?}: {ran:?}");
        assert!(ran.out.is_empty() || ran.json()["status"] == 0, "{words:?}: {ran:?}");
    }
    assert_eq!(snapshot(&sandbox), before);
    let listed = sandbox.postern(&["--as", "owner:ann", "api", "--list"]).succeeded();
    assert!(listed.contains("add_allowance") && !listed.contains("apply_config"), "{listed}");
}

#[test]
fn nothing_in_a_json_object_can_name_anybody() {
    let sandbox = scene();
    let before = snapshot(&sandbox);
    for forged in [r#""as":"root:x""#, r#""who":"root""#, r#""scope":"root""#, r#""--as":"root:x""#] {
        let mut command = sandbox.program("postern", 0, &[]);
        command.args(["--as", "owner:ann", "api", "release_block", "-"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let object = format!(r#"{{"value":"alice@ann.test",{forged}}}"#);
        child.stdin.take().unwrap().write_all(object.as_bytes()).unwrap();
        let answer = sandbox.finish(child).json();
        assert_eq!(answer["metadata"]["code"], "bad_value", "{answer}");
    }
    assert_eq!(snapshot(&sandbox), before);
}

#[test]
fn the_name_goes_into_the_trail() {
    let sandbox = scene();
    for (who, name) in [("root:sue", "root (sue)"), ("reseller:rex", "reseller rex")] {
        allowed(&call_as(&sandbox, who, &["add_block", "value=bob@ann.test", &format!("note={name}")]), who);
        assert_eq!(sandbox.api(&["list_audit", "limit=1"])[0]["who"], name);
        sandbox.api(&["release_block", "value=bob@ann.test"]);
    }
    assert_eq!(sandbox.logged("who=reseller%20rex "), 1);
    let said = sandbox.postern(&["--as", "reseller:rex", "blocks", "list"]).succeeded();
    assert!(said.contains("alice@ann.test"), "{said}");
}

#[test]
fn records_that_cannot_be_believed_give_nothing_to_anybody() {
    let sandbox = scene();
    let before = snapshot(&sandbox);
    let nothing_is_anybodys = |why: &str, code: &str| {
        for who in ["owner:ann", "reseller:rex"] {
            for words in
                [&["list_blocks"][..], &["list_activity"], &["release_block", "value=alice@ann.test"]]
            {
                let answer = call_as(&sandbox, who, words);
                let found = (&answer["status"], &answer["data"], answer["metadata"]["code"].as_str());
                assert_eq!(found, (&0.into(), &().into(), Some(code)), "{why} {who}: {answer}");
            }
        }
        allowed(&call_as(&sandbox, "root:sue", &["list_blocks"]), "the administrator needs no records");
    };
    for name in ["etc/userdomains", "etc/trueuserdomains", "etc/trueuserowners"] {
        let file = sandbox.path(name);
        let text = fs::read(&file).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        nothing_is_anybodys(name, "not_allowed");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        sandbox.give(&file, THIEF);
        nothing_is_anybodys(name, "not_allowed");
        sandbox.give(&file, 0);
        fs::write(&file, [&text[..], b"ann.test ann\n"].concat()).unwrap();
        nothing_is_anybodys(name, "data");
        fs::remove_file(&file).unwrap();
        nothing_is_anybodys(name, "file");
        fs::write(&file, text).unwrap();
    }
    fs::write(sandbox.path("etc/userdomains"), "").unwrap();
    fs::write(sandbox.path("etc/trueuserdomains"), "").unwrap();
    fs::write(sandbox.path("etc/trueuserowners"), "").unwrap();
    nothing_is_anybodys("empty files", "not_found");
    cpanel(&sandbox);
    for stranger in
        ["owner:nobody", "owner:root", "reseller:root", "reseller:nobody", "owner:zoe", "owner:Ann"]
    {
        let answer = call_as(&sandbox, stranger, &["list_blocks"]);
        assert_eq!(answer["metadata"]["code"], "not_found", "{stranger}: {answer}");
    }
    assert_eq!(snapshot(&sandbox), before);
    allowed(&call_as(&sandbox, "owner:ann", &["list_blocks"]), "as before");
}

#[test]
fn a_domain_that_moves_to_another_owner_is_the_other_ones_from_the_next_call_on() {
    let sandbox = scene();
    let shown =
        |who: &str| call_as(&sandbox, who, &["list_blocks"])["data"].to_string().contains("alice@ann.test");
    assert!(shown("owner:ann") && !shown("owner:otto"));
    fs::write(sandbox.path("etc/userdomains"), "ann.test: otto\n").unwrap();
    fs::write(sandbox.path("etc/trueuserdomains"), "ann.test: otto\n").unwrap();
    assert!(!shown("owner:ann") && shown("owner:otto"));
}

#[test]
fn without_a_panel_the_administrators_file_says_who_owns_what() {
    let sandbox = Sandbox::new().blocked("alice@ann.test").blocked("bob@otto.test");
    let answer = call_as(&sandbox, "owner:ann", &["list_blocks"]);
    assert_eq!(answer["metadata"]["code"], "file", "{answer}");
    assert!(answer.to_string().contains("etc/postern/owners"), "{answer}");
    fs::write(
        sandbox.path("etc/postern/owners"),
        "# who\nann.test: ann\notto.test: otto\nann: rex\nwww.test: www-data\n",
    )
    .unwrap();
    for who in ["owner:ann", "reseller:rex"] {
        let answer = call_as(&sandbox, who, &["list_blocks"]);
        let shown = answer["data"].to_string();
        assert!(shown.contains("alice@ann.test") && !shown.contains("otto"), "{answer}");
    }
    // The user that sends for many is nobody's, whatever the file says.
    refused(&call_as(&sandbox, "owner:www-data", &["list_held", "account=www-data"]), "a shared user");
}

#[test]
fn status_names_the_panel_that_was_found_and_says_whether_its_records_are_believed() {
    let sandbox = Sandbox::new();
    let told = |state: &str, words: &[&str]| {
        let (found, says) = sandbox.status_of("panel").unwrap();
        assert_eq!(found, state, "{says}");
        words.iter().for_each(|word| assert!(says.contains(word), "{word}: {says}"));
    };
    told("note", &["None was found", "/etc/postern/owners", "is not there"]);
    let owners = sandbox.path("etc/postern/owners");
    fs::write(&owners, "ann.test: ann\n").unwrap();
    told("good", &["None was found", "/etc/postern/owners"]);
    fs::write(&owners, "ann.test ann\n").unwrap();
    told("warning", &["None was found", "can do nothing"]);
    plesk(&sandbox, "printf 'ann.test\\tann\\t\\t\\n'");
    told("good", &["Plesk was found"]);
    plesk(&sandbox, "exit 1");
    told("warning", &["Plesk was found", "can do nothing"]);
    cpanel(&sandbox);
    told("good", &["cPanel was found"]);
    fs::set_permissions(sandbox.path("etc/userdomains"), Permissions::from_mode(0o666)).unwrap();
    told("warning", &["cPanel was found", "others than root can write it"]);
}

/// `plesk` as its `db` command is: strict about how it is asked, and by whom.
fn plesk(sandbox: &Sandbox, then: &str) {
    for folder in ["usr/local/psa", "usr/sbin"] {
        fs::create_dir_all(sandbox.path(folder)).unwrap();
    }
    fs::write(sandbox.path("usr/local/psa/version"), "18.0.70\n").unwrap();
    let script = format!(
        "#!/bin/sh\n[ $# = 3 ] && [ \"$1 $2\" = 'db -Ne' ] && [ \"$(id -u)\" = 0 ] || exit 9\n\
         case \"$3\" in *otto*|*ann*) exit 9;; 'SELECT d.name, c.login'*'FROM domains d JOIN clients c'*) ;; *) exit 9;; esac\n{then}"
    );
    sandbox.install(&sandbox.path("usr/sbin/plesk"), &script);
}

#[test]
fn plesk_is_asked_by_its_own_command_and_an_answer_that_is_not_sound_gives_nothing() {
    let sandbox = Sandbox::new().blocked("alice@ann.test").blocked("bob@otto.test").blocked("annweb");
    plesk(
        &sandbox,
        "printf 'ann.test\\tann\\trex\\tannweb\\notto.test\\totto\\t\\tottoweb\\nold.test\\tann\\trex\\t\\n'\n",
    );
    for who in ["owner:ann", "reseller:rex"] {
        let answer = call_as(&sandbox, who, &["list_blocks"]);
        let shown = answer["data"].to_string();
        assert!(
            shown.contains("alice@ann.test") && shown.contains("annweb") && !shown.contains("otto"),
            "{answer}"
        );
        refused(&call_as(&sandbox, who, &["explain", "account=x@otto.test", "address=192.0.2.7"]), who);
    }
    let good = "printf 'ann.test\\tann\\trex\\tannweb\\n'\n";
    for (then, code) in [
        (format!("{good}exit 1\n"), "state"),
        (format!("{good}kill -9 $$\n"), "state"),
        (format!("{good}echo 'ERROR 2002 (HY000)'\n"), "data"),
        (format!("{good}echo\n"), "data"),
        (String::new(), "not_found"),
    ] {
        plesk(&sandbox, &then);
        let answer = call_as(&sandbox, "owner:ann", &["list_blocks"]);
        assert_eq!(answer["metadata"]["code"], code, "{then}: {answer}");
    }
    fs::remove_file(sandbox.path("usr/sbin/plesk")).unwrap();
    assert_eq!(call_as(&sandbox, "owner:ann", &["list_blocks"])["metadata"]["code"], "system");
}

/// Says this to a socket as this user, and nothing more; what is answered until the connection ends.
fn say(socket: &Path, user: u32, text: &[u8]) -> std::io::Result<String> {
    as_user(user, || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(FOREVER))?;
        // Whoever is refused at once may be gone already.
        let _ = stream.write_all(text).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        Ok(String::from_utf8_lossy(&said).into_owned())
    })
}

/// What a thief with a mailbox's password reaches: the doors, through the mail servers, and with them the keeper's
/// sockets. None of them knows a function of admin mode.
#[test]
fn a_thief_with_a_mailbox_password_cannot_lift_anything() {
    let sandbox = scene().setting("rate_limit_messages", "1").setting("owner_release", "on");
    assert_eq!(sandbox.send("bob@ann.test"), "allow\n");
    assert!(sandbox.send("bob@ann.test").starts_with("defer"));
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let keeper = sandbox.keeper(&[&format!("--policy-at={at}")]);
    let before = snapshot(&sandbox);
    let key = fs::read_to_string(sandbox.path("etc/postern/policy-key")).unwrap().trim().to_owned();
    let call = "release_block value=alice@ann.test";
    for text in [
        question("release_block", &["alice@ann.test"]),
        question("api", &["release_block", "value=alice@ann.test", "--as=root:x"]),
        question("mail", &[GERMAN, "alice@ann.test\napi release_block value=alice@ann.test"]),
        format!("{call}\n\n"),
        format!("request={}\nvalue=alice@ann.test\n\n", "release_block"),
        r#"{"function":"release_block","value":"alice@ann.test","as":"root:x"}"#.to_owned() + "\n\n",
    ] {
        for socket in ["exim", "milter", "postfix"] {
            let socket = keeper.socket.with_file_name(socket);
            for user in [EXIM, POSTERN] {
                let said = say(&socket, user, text.as_bytes()).unwrap();
                assert!(!said.contains("released") && !said.contains("\"status\":1"), "{text}: {said}");
            }
            assert!(say(&socket, THIEF, text.as_bytes()).is_err(), "an ordinary user does not even get in");
        }
    }
    for target in ["/api/release_block", "/?command=release_block", "/?command=allow&function=release_block"]
    {
        let body = r#"{"login":"alice@ann.test","value":"alice@ann.test","as":"root:x"}"#;
        let request = format!(
            "POST {target} HTTP/1.1\r\nX-Postern-Key: {key}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let said = crate::keeper::policy_answer(&mut stream);
        assert!(!said.contains("released"), "{target}: {said}");
    }
    for (program, user) in
        [("postern-exim", EXIM), ("postern-dovecot", DOVECOT), ("postern-postfix", POSTERN)]
    {
        for verb in ["api", "release_block", "release", "--as=root:x"] {
            let mut command = sandbox.program(program, user, &[]);
            command.args([verb, "release_block", "value=alice@ann.test"]);
            let ran = run(&mut command);
            assert!(!ran.out.contains("released"), "{program} {verb}: {ran:?}");
        }
    }
    for user in [EXIM, DOVECOT, POSTERN, THIEF] {
        let ran = sandbox.postern_as(user, &["api", "release_block", "value=bob@ann.test"]);
        assert_eq!(ran.json()["status"], 0, "{user}: {ran:?}");
    }
    assert_eq!(snapshot(&sandbox), before);
    assert!(sandbox.mail("alice@ann.test", GERMAN).starts_with("deny"));
    assert!(sandbox.send("bob@ann.test").starts_with("defer"));
}
