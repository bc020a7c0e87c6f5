//! `postern backup` and `postern restore`: under load, there and back, and everything that must not be believed.

use crate::sandbox::{AMERICAN, EXIM, FRENCH, GERMAN, NOON, POSTERN, Ran, Sandbox, mode_of, owner_of};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A scene with something in every place that a backup holds.
fn scene() -> Sandbox {
    let sandbox = Sandbox::new()
        .countries("DE,AT")
        .countries_for("example.test", "FR")
        .exempt_ip("198.51.100.0/24")
        .exempt_user("carol@example.test")
        .whitelisted("news@example.test")
        .blocked("mallory@example.test")
        .allowance("alice@example.test", "US", "7d")
        .setting("rate_limit_messages", "20");
    sandbox.postern(&["exemptions", "user", "add", "user:web.user", "--note", "dots"]).succeeded();
    sandbox
}

fn backup(sandbox: &Sandbox, name: &str) -> PathBuf {
    let file = sandbox.path(name);
    sandbox.postern(&["backup", file.to_str().unwrap()]).succeeded();
    file
}

fn restore(sandbox: &Sandbox, file: &Path, more: &[&str]) -> Ran {
    sandbox.postern(&[&["restore", file.to_str().unwrap()], more].concat())
}

/// What hooks read, but for the numbers that every publishing changes.
fn policy(sandbox: &Sandbox) -> Vec<(String, Vec<u8>, String)> {
    let db = Connection::open(sandbox.path("var/lib/postern/policy.db")).unwrap();
    let mut read = db.prepare("SELECT kind, key, value FROM fact ORDER BY kind, key").unwrap();
    let rows = read.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let without_numbers = |(kind, key, value): (String, Vec<u8>, String)| {
        let mut value: Value = serde_json::from_str(&value).unwrap_or(Value::String(value));
        for name in ["generation", "published"] {
            value.as_object_mut().map(|head| head.remove(name));
        }
        (kind, key, value.to_string())
    };
    rows.map(|row| without_numbers(row.unwrap())).collect()
}

/// Files with their bytes, owner and mode.
type Files = BTreeMap<PathBuf, (Vec<u8>, (u32, u32), u32)>;

/// Every file below the folder of what is kept.
fn everything(sandbox: &Sandbox) -> Files {
    fn walk(folder: &Path, found: &mut Files) {
        for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            let bytes = if entry.is_file() { fs::read(&entry).unwrap() } else { Vec::new() };
            found.insert(entry.clone(), (bytes, owner_of(&entry), mode_of(&entry)));
            if entry.is_dir() && !entry.is_symlink() {
                walk(&entry, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&sandbox.path("var/lib/postern"), &mut found);
    // Index of the write-ahead log: readers write into it.
    found.retain(|path, _| !path.to_string_lossy().ends_with("-shm"));
    found
}

/// The members of an archive.
fn members(file: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(file).unwrap());
    let read = |entry: std::io::Result<tar::Entry<fs::File>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_string(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Writes members as an archive, its manifest put right for what is in it and then changed by `forge`.
fn packed(sandbox: &Sandbox, mut members: Vec<(String, Vec<u8>)>, forge: impl FnOnce(&mut Value)) -> PathBuf {
    let mut manifest: Value = serde_json::from_slice(&members[0].1).unwrap();
    let part = |(name, bytes): &(String, Vec<u8>)| {
        let sum: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        json!({ "name": name, "bytes": bytes.len(), "sha256": sum })
    };
    manifest["parts"] = members[1..].iter().map(part).collect();
    forge(&mut manifest);
    members[0].1 = serde_json::to_vec(&manifest).unwrap();
    let file = sandbox.path("forged.tar");
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    fs::write(&file, archive.into_inner().unwrap()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// The members, with one database changed by SQL.
fn changed(
    sandbox: &Sandbox,
    members: &[(String, Vec<u8>)],
    name: &str,
    sql: &str,
) -> Vec<(String, Vec<u8>)> {
    let draft = sandbox.path("draft.db");
    let mut members = members.to_vec();
    let member = members.iter_mut().find(|(n, _)| n == name).unwrap();
    fs::write(&draft, &member.1).unwrap();
    Connection::open(&draft).unwrap().execute_batch(sql).unwrap();
    member.1 = fs::read(&draft).unwrap();
    fs::remove_file(draft).unwrap();
    members
}

#[test]
fn a_backup_is_roots_alone_and_says_what_is_in_it() {
    let sandbox = scene();
    sandbox.log();
    let file = backup(&sandbox, "backup.tar");
    assert_eq!((owner_of(&file), mode_of(&file)), ((0, 0), 0o600));
    let members = members(&file);
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["manifest.json", "settings.db", "state.db"]);
    let manifest: Value = serde_json::from_slice(&members[0].1).unwrap();
    assert_eq!((&manifest["program"], &manifest["made"]), (&json!("postern"), &json!(NOON)));
    let tar = sandbox.run_as(std::process::Command::new("/bin/tar").arg("tf").arg(&file), 0);
    assert_eq!(tar.succeeded(), "manifest.json\nsettings.db\nstate.db\n", "other programs read it too");
    assert_eq!(sandbox.logged("event=backup who=root"), 1);
    let left = everything(&sandbox).into_keys().filter(|p| p.to_string_lossy().contains("backup"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new());
    assert_eq!(sandbox.files_of(POSTERN, "var/lib/postern/data").len(), 2, "the network data and their lock");

    let before = fs::read(&file).unwrap();
    let again = sandbox.postern(&["backup", file.to_str().unwrap()]);
    assert!(again.failed().contains("exists") && fs::read(&file).unwrap() == before);
    symlink(sandbox.path("elsewhere"), sandbox.path("link")).unwrap();
    sandbox.postern(&["backup", sandbox.path("link").to_str().unwrap()]).failed();
    assert!(!sandbox.path("elsewhere").exists());
    let small = sandbox.path("small.tar");
    sandbox.postern(&["backup", small.to_str().unwrap(), "--settings-only"]).succeeded();
    assert_eq!(self::members(&small).len(), 2);
    sandbox
        .postern_as(EXIM, &["backup", sandbox.path("run/postern/trouble/mine").to_str().unwrap()])
        .failed();
    assert!(!sandbox.path("run/postern/trouble/mine").exists());
}

/// A message, in the keeper's fields.
fn message(account: &str) -> [&str; 7] {
    ["data", GERMAN, account, "", "", "1", "1xW1Xt-0000gl-1R"]
}

/// Whether a copy of the state is whole.
fn is_whole(sandbox: &Sandbox, bytes: &[u8]) -> bool {
    let path = sandbox.path("copy.db");
    fs::write(&path, bytes).unwrap();
    let said: String =
        Connection::open(&path).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    fs::remove_file(path).unwrap();
    said == "ok"
}

#[test]
fn backups_under_load_are_whole_and_cost_no_count() {
    const LIMIT: usize = 2000;
    const ACCOUNT: &str = "sender@example.test";
    let sandbox = Sandbox::new().setting("rate_limit_messages", &LIMIT.to_string());
    let keeper = sandbox.keeper(&[]);
    let sending = AtomicUsize::new(3);
    let (admitted, backups) = std::thread::scope(|threads| {
        let senders: Vec<_> = (0..3)
            .map(|n| {
                let (sending, sandbox, keeper) = (&sending, &sandbox, &keeper);
                threads.spawn(move || {
                    let send = || match n {
                        0 => sandbox.send(ACCOUNT),
                        _ => keeper.ask(EXIM, "send", &message(ACCOUNT)).unwrap(),
                    };
                    let admitted = (0..).take_while(|_| send() == "allow\n").count();
                    sending.fetch_sub(1, Ordering::Relaxed);
                    admitted
                })
            })
            .collect();
        let mut backups = 0;
        while backups < 3 || sending.load(Ordering::Relaxed) > 0 {
            let file = backup(&sandbox, "backup.tar");
            assert!(is_whole(&sandbox, &members(&file)[2].1));
            fs::remove_file(file).unwrap();
            backups += 1;
        }
        (senders.into_iter().map(|s| s.join().unwrap()).collect::<Vec<usize>>(), backups)
    });
    // Not one message uncounted, whoever counted it.
    assert_eq!(admitted.iter().sum::<usize>(), LIMIT, "{admitted:?}");
    assert!(admitted.iter().all(|n| *n > 0), "{admitted:?}");
    println!("{backups} backups while {admitted:?} messages were admitted");
    assert_eq!(fs::read_dir(sandbox.path("run/postern/trouble")).unwrap().count(), 0);
}

#[test]
fn settings_come_back_as_they_were_and_the_trail_tells_who_did_it() {
    let sandbox = scene();
    let (before, generation) = (policy(&sandbox), sandbox.api(&["get_settings"])["generation"].clone());
    let file = backup(&sandbox, "backup.tar");
    let sandbox = sandbox.countries("US").blocked("carol@example.test").setting("rate_limit_messages", "77");
    sandbox.postern(&["exemptions", "ip", "remove", "198.51.100.0/24"]).succeeded();
    sandbox.postern(&["allowances", "remove", "1"]).succeeded();
    assert_ne!(policy(&sandbox), before);
    let trail = sandbox.api(&["list_audit"]);

    let asked = restore(&sandbox, &file, &[]);
    assert!(asked.err.contains("confirm") && asked.err.contains("generation") && asked.status == Some(1));
    assert_ne!(policy(&sandbox), before);
    sandbox.log();
    let told = restore(&sandbox, &file, &["--confirm"]).succeeded();
    assert!(told.contains("in force"), "{told}");
    assert_eq!(policy(&sandbox), before);
    let now = sandbox.api(&["list_audit"]);
    assert_eq!(now.as_array().unwrap()[1..], trail.as_array().unwrap()[..], "nothing of the trail is lost");
    assert_eq!((&now[0]["action"], &now[0]["who"]), (&json!("restore_settings"), &json!("root")));
    assert!(now[0]["subject"].as_str().unwrap().contains(&format!("generation {generation}")));
    assert!(now[0]["generation"].as_i64() > trail[0]["generation"].as_i64());
    assert_eq!(sandbox.status_of("policy").unwrap().0, "good");
    assert_eq!(sandbox.logged("event=restore who=root"), 1);
    // A number that was given is not given again.
    let id = sandbox.api(&["add_allowance", "for=b@example.test", "from=US", "until=7d"]);
    assert_eq!(id["id"], 2, "{id}");
    assert_eq!(sandbox.mail("alice@example.test", AMERICAN), "allow\n");
}

#[test]
fn a_new_server_takes_over_settings_trail_and_state() {
    let old = scene();
    old.sends_freely("spammer@example.test", 20);
    assert_ne!(old.send("spammer@example.test"), "allow\n");
    let (file, trail) = (backup(&old, "backup.tar"), old.api(&["list_audit", "limit=1000"]));
    let new = Sandbox::bare();
    new.postern(&["init", "--user=61000:61000", "--mail-users=61001:61001"]).succeeded();
    restore(&new, &file, &["--state", "--confirm"]).succeeded();
    assert_eq!(
        new.api(&["list_audit", "limit=1000"]).as_array().unwrap()[1..],
        trail.as_array().unwrap()[..]
    );
    let generation = |of: &Sandbox| of.api(&["get_settings"])["generation"].as_i64().unwrap();
    assert!(generation(&new) > generation(&old), "whoever read the old one's is told that it was changed");
    // What belongs to the machine is this one's own.
    let host: String = Connection::open(new.path("var/lib/postern/settings.db"))
        .unwrap()
        .query_row("SELECT value FROM host WHERE key = 'mail_uids'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(host, "61001");
    assert_ne!(new.send("spammer@example.test"), "allow\n", "still stopped");
    assert_eq!(new.send("alice@example.test"), "allow\n");
    assert_eq!((owner_of(&new.state()), mode_of(&new.state()) & 0o660), ((POSTERN, POSTERN), 0o660));
}

#[test]
fn the_state_comes_back_while_a_keeper_works_with_it() {
    let sandbox = scene();
    let keeper = sandbox.keeper(&[]);
    sandbox.sends_freely("spammer@example.test", 20);
    assert_ne!(sandbox.send("spammer@example.test"), "allow\n");
    let file = backup(&sandbox, "backup.tar");
    sandbox.postern(&["blocks", "release", "spammer@example.test"]).succeeded();
    assert_eq!(sandbox.send("spammer@example.test"), "allow\n");
    assert_eq!(keeper.ask(EXIM, "send", &message("spammer@example.test")).unwrap(), "allow\n");
    let told = restore(&sandbox, &file, &["--state", "--confirm"]).succeeded();
    assert!(told.contains("So is the state."), "{told}");
    assert_ne!(sandbox.send("spammer@example.test"), "allow\n");
    crate::sandbox::eventually("the keeper works with the state that came back", || {
        keeper.ask(EXIM, "send", &message("spammer@example.test")).unwrap().starts_with("defer")
    });
    assert!(
        sandbox
            .path("var/lib/postern/state")
            .read_dir()
            .unwrap()
            .any(|e| { e.unwrap().file_name().to_string_lossy().starts_with("broken-") })
    );
}

#[test]
fn without_state_in_it_or_asked_for_the_state_stays() {
    let sandbox = scene();
    let file = sandbox.path("backup.tar");
    sandbox.postern(&["backup", file.to_str().unwrap(), "--settings-only"]).succeeded();
    sandbox.sends_freely("spammer@example.test", 20);
    assert_ne!(sandbox.send("spammer@example.test"), "allow\n");
    let refused = restore(&sandbox, &file, &["--state", "--confirm"]);
    assert!(refused.failed().contains("no state in this backup"));
    restore(&sandbox, &file, &["--confirm"]).succeeded();
    assert_ne!(sandbox.send("spammer@example.test"), "allow\n");
}

/// Refused with these words, and every byte as it was.
#[track_caller]
fn is_refused(sandbox: &Sandbox, file: &Path, words: &str) {
    let before = everything(sandbox);
    for more in [&["--confirm"][..], &["--confirm", "--state"]] {
        let ran = restore(sandbox, file, more);
        assert!(ran.status == Some(1) && ran.err.contains(words), "{words}: {ran:?}");
        let after = everything(sandbox);
        assert!(after.keys().eq(before.keys()), "{words}: {:?}", after.keys());
        for (path, found) in &after {
            assert!(found == &before[path], "{words}: {} changed", path.display());
        }
    }
}

#[test]
fn a_backup_that_is_cut_off_or_has_other_bytes_is_refused() {
    let sandbox = scene();
    let file = backup(&sandbox, "backup.tar");
    sandbox.postern(&["settings", "set", "rate_limit_messages", "33"]).succeeded();
    let whole = fs::read(&file).unwrap();
    let damaged = sandbox.path("damaged.tar");
    let put = |bytes: &[u8]| {
        fs::write(&damaged, bytes).unwrap();
        fs::set_permissions(&damaged, fs::Permissions::from_mode(0o600)).unwrap();
    };
    for length in [0, 1, 511, 512, 700, 2000, whole.len() / 2, whole.len() - 1024, whole.len() - 1] {
        put(&whole[..length]);
        is_refused(&sandbox, &damaged, "no backup that can be restored");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    put(&longer);
    is_refused(&sandbox, &damaged, "behind its end");
    // A bit anywhere in the settings or the state.
    for at in [2600, whole.len() / 3, whole.len() * 2 / 3, whole.len() - 2000] {
        let mut other = whole.clone();
        other[at] ^= 1;
        put(&other);
        is_refused(&sandbox, &damaged, "no backup that can be restored");
    }
}

#[test]
fn what_is_no_backup_of_posterns_or_not_roots_is_refused() {
    let sandbox = scene();
    let file = backup(&sandbox, "backup.tar");
    is_refused(&sandbox, Path::new("/etc/passwd"), "no backup that can be restored");
    is_refused(&sandbox, &sandbox.path("var/lib/postern/settings.db"), "no backup that can be restored");
    is_refused(&sandbox, &sandbox.path("nothing"), "No such file");
    is_refused(&sandbox, sandbox.root(), "no plain file");
    symlink(&file, sandbox.path("link.tar")).unwrap();
    is_refused(&sandbox, &sandbox.path("link.tar"), "is a link");
    nix::unistd::mkfifo(&sandbox.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    is_refused(&sandbox, &sandbox.path("pipe"), "no plain file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
    is_refused(&sandbox, &file, "others can write it");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.give(&file, EXIM);
    is_refused(&sandbox, &file, "belongs to another user");
}

#[test]
fn an_archive_that_says_something_else_is_refused() {
    let sandbox = scene();
    let good = members(&backup(&sandbox, "backup.tar"));
    restore(&sandbox, &packed(&sandbox, good.clone(), |_| {}), &["--confirm", "--state"]).succeeded();
    let forged = |forge: &dyn Fn(&mut Value)| packed(&sandbox, good.clone(), forge);
    is_refused(&sandbox, &forged(&|m| m["form"] = json!(2)), "a newer Postern");
    is_refused(&sandbox, &forged(&|m| m["program"] = json!("nretsop")), "not Postern's");
    is_refused(&sandbox, &forged(&|m| m["parts"] = json!([])), "not settings and state");
    is_refused(&sandbox, &forged(&|m| m["parts"][0]["sha256"] = json!("00")), "checksum");
    is_refused(&sandbox, &forged(&|m| m["parts"][0]["bytes"] = json!(u64::MAX)), "cut off");
    is_refused(&sandbox, &forged(&|m| *m = json!(null)), "does not say what is in it");
    let mut more = good.clone();
    more.push(("../../etc/shadow".replace("../", "x"), b"root".to_vec()));
    is_refused(&sandbox, &packed(&sandbox, more, |_| {}), "not settings and state");
    let mut other_order = good.clone();
    other_order.swap(1, 2);
    is_refused(&sandbox, &packed(&sandbox, other_order, |_| {}), "not settings and state");
}

#[test]
fn settings_that_nobody_could_have_typed_in_are_refused() {
    let sandbox = scene();
    let good = members(&backup(&sandbox, "backup.tar"));
    let with = |sql: &str| packed(&sandbox, changed(&sandbox, &good, "settings.db", sql), |_| {});
    for (sql, words) in [
        ("INSERT OR REPLACE INTO setting VALUES ('rate_limit_messages', '0')", "rate_limit_messages"),
        ("INSERT INTO entry(list, value, who, at) VALUES ('ip_exemption', 'nowhere', '', 0)", "nowhere"),
        (
            "INSERT INTO entry(list, value, who, at) VALUES ('address_block', '127.0.0.0/8', '', 0)",
            "loopback",
        ),
        (
            "INSERT INTO entry(list, value, who, at) VALUES ('user_exemption', 'A@B.TEST', '', 0)",
            "should stand as",
        ),
        ("INSERT INTO entry(list, value, who, at) VALUES ('everybody', 'a@b.test', '', 0)", "everybody"),
        (
            "INSERT INTO entry(list, value, who, at) VALUES ('whitelist', 'a@b.test', '', 'late')",
            "cannot be used",
        ),
        ("INSERT INTO country VALUES ('*', 'Germany')", "Germany"),
        ("UPDATE allowance SET source = 'somewhere'", "somewhere"),
        ("UPDATE meta SET value = 'many' WHERE key = 'generation'", "settings.db"),
        ("INSERT INTO sending_limit VALUES ('mine', 'many')", "many"),
        (
            "UPDATE sending_limit SET value = json_set(value, '$.window', 1) WHERE name = 'recipients-hour'",
            "window of the limit",
        ),
        ("UPDATE sending_limit SET value = json_set(value, '$.id', 7)", "number of its own"),
        ("INSERT INTO limit_override VALUES ('a@b.test', 'outbound', '[{}]')", "other numbers"),
        (
            "INSERT INTO limit_override VALUES ('a@b.test', 'none', '[{\"limit\":\"none\",\"most\":5}]')",
            "limit that there is",
        ),
        ("INSERT INTO limit_override VALUES ('A@b.test', 'outbound', '[]')", "should stand as"),
        ("PRAGMA user_version = 99", "newer Postern"),
        ("PRAGMA user_version = 0", "empty"),
        ("DROP TABLE country", "tables are not"),
        ("CREATE TRIGGER t AFTER INSERT ON audit BEGIN DELETE FROM audit; END", "tables are not"),
    ] {
        is_refused(&sandbox, &with(sql), words);
    }
    let unknown = with("INSERT INTO setting VALUES ('of_another_version', '1')");
    let told = restore(&sandbox, &unknown, &["--confirm"]);
    assert!(told.err.contains("of_another_version") && told.status == Some(0), "{told:?}");
}

#[test]
fn a_state_that_is_none_is_refused_where_it_is_asked_for() {
    let sandbox = scene();
    let good = members(&backup(&sandbox, "backup.tar"));
    for (sql, words) in [
        ("PRAGMA user_version = 99", "newer Postern"),
        ("INSERT OR REPLACE INTO meta VALUES ('min_version', 99)", "newer Postern"),
        ("CREATE VIEW v AS SELECT 1", "tables are not"),
    ] {
        let file = packed(&sandbox, changed(&sandbox, &good, "state.db", sql), |_| {});
        let before = everything(&sandbox);
        let ran = restore(&sandbox, &file, &["--state", "--confirm"]);
        assert!(ran.status == Some(1) && ran.err.contains(words), "{words}: {ran:?}");
        assert!(everything(&sandbox) == before, "{sql}");
    }
}

#[test]
fn a_restore_that_somebody_elses_change_overtook_is_refused() {
    let sandbox = scene();
    let file = backup(&sandbox, "backup.tar");
    let generation = sandbox.api(&["get_settings"])["generation"].as_i64().unwrap();
    sandbox.postern(&["settings", "set", "rate_limit_messages", "33"]).succeeded();
    let before = everything(&sandbox);
    let old = format!("--generation={generation}");
    let ran = restore(&sandbox, &file, &["--confirm", "--state", &old]);
    assert!(ran.status == Some(1) && ran.err.contains("changed by somebody else"), "{ran:?}");
    assert!(everything(&sandbox) == before);
}

#[test]
fn damaged_settings_make_room_for_a_good_backup_and_for_nothing_else() {
    let sandbox = scene();
    let (file, before) = (backup(&sandbox, "backup.tar"), policy(&sandbox));
    let settings = sandbox.path("var/lib/postern/settings.db");
    for damage in [b"garbage, and no database at all".as_slice(), b""] {
        fs::write(&settings, damage).unwrap();
        sandbox.postern(&["settings", "list"]).failed();
        is_refused(&sandbox, Path::new("/etc/passwd"), "no backup");
        let told = restore(&sandbox, &file, &["--confirm", "--state"]).succeeded();
        assert!(told.contains("damaged file from before is kept"), "{told}");
        assert_eq!(policy(&sandbox), before);
        assert_eq!((owner_of(&settings), mode_of(&settings)), ((0, 0), 0o600));
        let kept = sandbox.path(&format!("var/lib/postern/settings.db.damaged-{}", sandbox.now()));
        assert_eq!(fs::read(kept).unwrap(), damage);
        sandbox.wait(60);
    }
    assert_ne!(sandbox.mail("bob@example.test", FRENCH), sandbox.mail("bob@elsewhere.test", FRENCH));
}

#[test]
fn a_state_that_mail_users_forged_is_not_backed_up_and_the_settings_are() {
    let sandbox = scene();
    Connection::open(sandbox.state())
        .unwrap()
        .execute_batch("CREATE VIEW v AS SELECT randomblob(1000)")
        .unwrap();
    let file = sandbox.path("backup.tar");
    let ran = sandbox.postern(&["backup", file.to_str().unwrap()]);
    assert!(ran.status == Some(1) && ran.err.contains("--settings-only"), "{ran:?}");
    assert!(!file.exists());
    sandbox.postern(&["backup", file.to_str().unwrap(), "--settings-only"]).succeeded();
}
