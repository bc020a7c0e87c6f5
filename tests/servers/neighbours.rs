//! Other products that count failed logins, with the real fail2ban and the filters that it brings: it bans whom Postern
//! refuses, does not with our rules, and counts wrong passwords all the same; bans are shown and lifted.

use crate::clients::Way;
use crate::doing::{BRAZILIAN, OUTSIDE, allow_germany_alone};
use crate::rig::{ALICE, BOB, Doors, Pair, Scene, eventually};
use serde_json::json;
use std::fs;
use std::process::Child;

/// Where lines come from that are no refusals, to see that fail2ban has read so far.
const MARKER: &str = "79.192.0.99";

/// fail2ban as it is installed, with jails on the scene's logs and an action that writes a line.
struct Fail2ban<'a> {
    scene: &'a Scene,
    server: Child,
}

impl<'a> Fail2ban<'a> {
    /// Reads the logs of the last ten minutes from their beginning.
    fn start(scene: &'a Scene, jails: &str, rules: bool) -> Fail2ban<'a> {
        let put = |inside: &str, text: &str| fs::write(scene.path(inside), text).unwrap();
        put(
            "/etc/fail2ban/fail2ban.d/rig.local",
            "[DEFAULT]\nlogtarget = /rig/fail2ban.log\ndbfile = None\n",
        );
        put(
            "/etc/fail2ban/action.d/rig.conf",
            "[Definition]\nactionban = echo <name> <ip> >>/rig/bans\nactionunban = true\n",
        );
        let all = "[DEFAULT]\nbackend = polling\naction = rig[name=%(__name__)s]\nmaxretry = 3\nfindtime = 10m\n\
                   ignoreself = false\n[sshd]\nenabled = false\n";
        put("/etc/fail2ban/jail.d/zz-rig.local", &format!("{all}{jails}"));
        let ours = scene.path("/etc/fail2ban/jail.d/postern.local");
        let _ = fs::remove_file(&ours);
        if rules {
            fs::copy("hooks/fail2ban/postern.local", ours).unwrap();
        }
        scene.run_as("root", &["mkdir", "-p", "/var/run/fail2ban"], "").succeeded();
        let clean = "rm -f /var/run/fail2ban/* /rig/fail2ban.log";
        scene.run_as("root", &["sh", "-c", clean], "").succeeded();
        let server = scene.start_as("root", &["/usr/bin/fail2ban-server", "-xf", "start"]);
        let begun = Fail2ban { scene, server };
        eventually("fail2ban answers", || begun.client(&["ping"]).contains("pong"));
        begun
    }

    fn client(&self, words: &[&str]) -> String {
        self.scene.run_as("root", &[&["/usr/bin/fail2ban-client"], words].concat(), "").stdout
    }

    /// How often the jail has counted a line about the address, and how often it has ignored one.
    fn counted_and_ignored(&self, jail: &str, address: &str) -> (usize, usize) {
        let log = fs::read_to_string(self.scene.path("/rig/fail2ban.log")).unwrap_or_default();
        let of = |word: &str| {
            let about = format!("[{jail}] {word} {address} ");
            log.lines().filter(|line| line.contains(&about)).count()
        };
        (of("Found"), of("Ignore"))
    }

    fn bans(&self, address: &str) -> String {
        self.client(&["banned", address]).trim().to_owned()
    }
}

impl Drop for Fail2ban<'_> {
    fn drop(&mut self) {
        let _ = self.client(&["stop"]);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

const EXIM_AND_DOVECOT: &str = "[exim]\nenabled = true\nlogpath = /rig/exim/log/mainlog\n\
                                [dovecot]\nenabled = true\nlogpath = /rig/dovecot/log\n";

fn scene(pair: Pair, doors: Doors) -> Scene {
    let scene = Scene::on(pair).doors(doors).start();
    allow_germany_alone(&scene);
    if doors.has_policy() {
        for service in ["smtp", "imap", "pop3"] {
            scene.api(&["set_setting", &format!("key={service}_logins_from"), "value=policy"]);
        }
    }
    // Today's key, by which guesses are told apart.
    scene.postern(&["tick"]).succeeded();
    scene
}

fn refused(scene: &Scene) {
    for way in [Way::SmtpPlain, Way::SmtpLogin, Way::SmtpPlain, Way::Imap, Way::Pop3, Way::Imap, Way::Imap] {
        assert!(!scene.login(way, BRAZILIAN, &ALICE).yes, "{way:?}");
    }
}

fn wrong_password(scene: &Scene, way: Way, from: &str, password: &str) {
    assert!(!scene.login_as(way, from, BOB.name, password).yes);
}

#[test]
fn fail2ban_counts_wrong_passwords_and_no_refusal_of_ours_and_explain_shows_and_lifts_its_bans() {
    // The filter for Dovecot that comes with fail2ban 1.1.0 does not know the lines of Dovecot 2.4.
    for (pair, doors, jails) in [
        (Pair::BookwormFail2ban, Doors { failed: true, ..Doors::DOVECOT }, &["exim", "dovecot"][..]),
        (Pair::BookwormFail2ban, Doors::POLICY.and_keeper(), &["exim", "dovecot"]),
        (Pair::TrixieFail2ban, Doors::POLICY.and_keeper(), &["exim"]),
    ] {
        let scene = scene(pair, doors);
        // He comes as far as his password from anywhere.
        scene.api(&["add_user_exemption", &format!("value={}", BOB.name)]);
        refused(&scene);
        {
            let fail2ban = Fail2ban::start(&scene, EXIM_AND_DOVECOT, false);
            eventually("without our rules each jail bans", || {
                let bans = fail2ban.bans(BRAZILIAN);
                jails.iter().all(|jail| bans.contains(jail))
            });
        }
        let fail2ban = Fail2ban::start(&scene, EXIM_AND_DOVECOT, true);
        let ended = || scene.dovecot_log().lines().filter(|l| l.contains("auth failed,")).count();
        let before = ended();
        refused(&scene);
        eventually("Dovecot has written its lines", || ended() >= before + 4);
        wrong_password(&scene, Way::SmtpPlain, MARKER, "wrong");
        wrong_password(&scene, Way::Imap, MARKER, "wrong");
        for jail in jails {
            let seen = |address| fail2ban.counted_and_ignored(jail, address);
            eventually("the wrong password is counted", || seen(MARKER).0 > 0);
            let (counted, ignored) = seen(BRAZILIAN);
            assert!(counted == 0 && ignored >= 6, "{pair:?} {doors:?} {jail}: {counted} {ignored}");
        }
        assert_eq!(fail2ban.bans(BRAZILIAN), "[[]]", "{pair:?} {doors:?}");

        for n in 0..8 {
            wrong_password(&scene, Way::SmtpPlain, BRAZILIAN, &format!("guess {n}"));
            wrong_password(&scene, Way::Imap, BRAZILIAN, &format!("guess {n}"));
        }
        eventually("who guesses is banned, refused or not", || fail2ban.bans(BRAZILIAN).contains("exim"));
        let address = format!("address={BRAZILIAN}");
        let shown = scene.api(&["explain", &format!("account={}", ALICE.name), &address]);
        assert_eq!(shown["bans"][0]["product"], "fail2ban", "{shown}");
        // It may still be reading of guesses, and ban once more: the command says so, and is given again.
        eventually("what is lifted is gone", || {
            if fail2ban.bans(BRAZILIAN) != "[[]]" {
                let lifted = scene.postern(&["bans", "lift", BRAZILIAN, "--reason", "the hotel"]);
                let said = format!("{}{}", lifted.stdout, lifted.stderr);
                assert!(lifted.code() == Some(0) || said.contains("still bans"), "{said}");
            }
            fail2ban.bans(BRAZILIAN) == "[[]]" && scene.api(&["find_bans", &address]) == json!([])
        });
    }
}

/// The real lines of Postfix, which cannot be in a folder with Exim, beside the same refusals.
#[test]
fn fail2ban_counts_no_refusal_of_ours_in_postfixs_log() {
    let jails = "[postfix]\nenabled = true\nmode = more\nlogpath = /rig/postfix.log\n\
                 [postfix-sasl]\nenabled = true\nlogpath = /rig/postfix.log\n";
    let scene_of_fail2ban = scene(Pair::BookwormFail2ban, Doors::DOVECOT);
    for doors in [Doors::DOVECOT, Doors::POLICY.and_keeper(), Doors::POSTFIX] {
        let postfix = scene(Pair::BookwormPostfix, doors);
        assert!(!scene_of_fail2ban.login(Way::Imap, BRAZILIAN, &ALICE).yes);
        for _ in 0..4 {
            if doors.before_auth {
                drop(postfix.smtp_on(10587, BRAZILIAN));
                let mut smtp = postfix.smtp(BRAZILIAN);
                assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
                assert!(!smtp.send(ALICE.name, &[OUTSIDE], "x").yes);
            } else {
                assert!(!postfix.login(Way::SmtpPlain, BRAZILIAN, &ALICE).yes);
            }
        }
        wrong_password(&postfix, Way::SmtpPlain, MARKER, "wrong");
        let written = || postfix.postfix_log().contains("[79.192.0.99]: SASL PLAIN authentication failed");
        eventually("Postfix has written its lines", written);
        let log = postfix.postfix_log();
        fs::write(scene_of_fail2ban.path("/rig/postfix.log"), &log).unwrap();
        let start = |rules| {
            let fail2ban = Fail2ban::start(&scene_of_fail2ban, jails, rules);
            let marked = || fail2ban.counted_and_ignored("postfix-sasl", MARKER).0 > 0;
            eventually("the wrong password is counted", marked);
            fail2ban
        };
        let seen = |fail2ban: &Fail2ban, jail| fail2ban.counted_and_ignored(jail, BRAZILIAN);
        // Nobody counts a connection that is refused before AUTH, nor a sender at MAIL.
        let lines = if doors.before_auth { 0 } else { 4 };
        {
            let fail2ban = start(false);
            eventually("without our rules", || seen(&fail2ban, "postfix-sasl") == (lines, 0));
            eventually("it bans", || (fail2ban.bans(BRAZILIAN) == "[[]]") == (lines == 0));
        }
        let fail2ban = start(true);
        eventually("the refusals are ignored", || seen(&fail2ban, "postfix-sasl") == (0, lines));
        assert_eq!(seen(&fail2ban, "postfix"), (0, 0), "{doors:?}\n{log}");
        assert_eq!(fail2ban.bans(BRAZILIAN), "[[]]", "{doors:?}\n{log}");
    }
}

/// The address that a refusal is about is the server's word in the line, whatever the client calls himself.
#[test]
fn lfd_is_told_which_lines_are_refusals_of_ours() {
    let scene = scene(Pair::Bookworm, Doors { failed: true, ..Doors::DOVECOT });
    refused(&scene);
    wrong_password(&scene, Way::SmtpPlain, MARKER, "wrong");
    wrong_password(&scene, Way::Imap, MARKER, "wrong");
    let liar = format!("x) [{BRAZILIAN}]: 535 Incorrect authentication data (set_id=y");
    assert!(!scene.login_as(Way::SmtpPlain, MARKER, &liar, "wrong").yes);
    let custom = fs::read_to_string("hooks/csf/regex.custom.pm").unwrap();
    // In the form that lfd's own file of that name has, as a part of which it is pasted.
    let module = format!(
        "#!/usr/bin/perl\nuse strict;\nsub custom_line {{\n\tmy $line = shift;\n\tmy $lgfile = shift;\n\
         # Do not edit before this point\n{custom}\n\treturn 0;\n}}\n1;\n"
    );
    fs::write(scene.path("/rig/regex.custom.pm"), module).unwrap();
    // As lfd calls it for each line: what it gives goes before lfd's own rules, and without an address counts for nobody.
    let lfd = r#"use strict; use warnings FATAL => 'all'; require "/rig/regex.custom.pm"; $SIG{CHLD} = 'IGNORE';
        while (my $line = <STDIN>) { chomp $line; my ($text, $ip, $app) = custom_line($line, "log");
        next unless $line =~ /authenticator failed|-login: .*auth failed,/;
        print $text ? "spared[$ip]$app" : "counted", " $line\n"; }"#;
    let logs = scene.exim_log() + &scene.dovecot_log();
    let judged = scene.run_as("root", &["perl", "-e", lfd], &logs).succeeded();
    let of = |address: &str| -> Vec<&str> {
        let about = judged.lines().filter(|line| {
            line.contains(&format!("rip={address},"))
                || line.contains(&format!(" [{address}]:")) && !line.contains("set_id=x")
        });
        about.map(|line| line.split(' ').next().unwrap()).collect()
    };
    let (ours, genuine) = (of(BRAZILIAN), of(MARKER));
    assert!(ours.len() >= 6 && ours.iter().all(|word| *word == "spared[]postern"), "{judged}");
    assert!(genuine.len() >= 2 && genuine.iter().all(|word| *word == "counted"), "{judged}");
    let liars: Vec<&str> = judged.lines().filter(|line| line.contains("set_id=x")).collect();
    assert!(!liars.is_empty() && liars.iter().all(|line| line.starts_with("counted")), "{judged}");
}
