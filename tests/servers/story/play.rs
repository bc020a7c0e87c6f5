//! The story. Each step insists that what it tells is what happened.

use crate::clients::{Reply, Way};
use crate::rig::{ADMIN, ALICE, BOB, Mailbox, Scene, eventually};
use crate::tell::{chapter, heard, insist, postern, tell};

const GERMANY: &str = "79.192.0.1";
const GERMANY_V6: &str = "2003::1";
const AUSTRIA: &str = "193.170.140.1";
const BRAZIL: &str = "200.160.2.3";
const JAPAN: &str = "202.12.27.33";
const SOUTH_AFRICA: &str = "196.216.2.6";
const CHINA_V6: &str = "2400:3200::1";
/// Hetzner's.
const CLOUD: &str = "5.9.0.1";
const BILLING: &str = "5.9.0.77";

/// The limit as Postern is installed.
const LIMIT: usize = 150;

pub(crate) fn the_story(scene: &Scene) {
    the_server(scene);
    countries(scene);
    refusals(scene);
    exemptions(scene);
    clouds(scene);
    the_limiter(scene);
    the_end(scene);
}

fn login(scene: &Scene, way: Way, who: &Mailbox, from: &str, place: &str) -> Reply {
    let reply = scene.login(way, from, who);
    heard(&format!("{} by {way:?} from {from} ({place})", who.name), &reply);
    reply
}

fn the_server(scene: &Scene) {
    chapter("A hosting server");
    tell(
        "In a folder of its own run Exim 4.96 and Dovecot 2.3, as Debian 12 has them. Both ask Postern, by the \
         snippets in hooks/. The clients below are real mail clients on loopback; the PROXY protocol lets them \
         arrive from any address in the world.",
    );
    postern(scene, &["status"]);
}

fn countries(scene: &Scene) {
    chapter("Logins only from Germany and Austria");
    tell(
        "A new Postern restricts no country. The administrator says where the server stands, chooses the \
         countries, names a mailbox for notices, and turns the rule on.",
    );
    postern(scene, &["settings", "set", "default_server_geoip", "DE"]);
    postern(scene, &["settings", "set", "administration_email_address", ADMIN.name]);
    postern(scene, &["countries", "allow", "DE,AT"]);
    postern(scene, &["settings", "set", "country_rule", "enforce"]);
    tell("Alice reads and sends from Germany and Austria. Nothing has changed for her.");
    for (way, from, place) in [
        (Way::Imap, GERMANY, "Germany"),
        (Way::SmtpPlain, GERMANY, "Germany"),
        (Way::Pop3, AUSTRIA, "Austria"),
        (Way::SmtpLogin, GERMANY_V6, "Germany, IPv6"),
    ] {
        insist(login(scene, way, &ALICE, from, place).yes, "Alice gets in from an allowed country");
    }
}

fn refusals(scene: &Scene) {
    chapter("The same password from Brazil");
    tell("Somebody has Alice's password. From Brazil it is worth nothing, by whatever service.");
    for (way, from, place) in [
        (Way::SmtpPlain, BRAZIL, "Brazil"),
        (Way::Imap, BRAZIL, "Brazil"),
        (Way::Pop3, BRAZIL, "Brazil"),
        (Way::Imap, CHINA_V6, "China, IPv6"),
    ] {
        let reply = login(scene, way, &ALICE, from, place);
        insist(!reply.yes, "nobody gets in from a country that is not allowed");
        if way == Way::SmtpPlain {
            insist(reply.says("535 5.7.8"), "Exim refuses at AUTH with 535 5.7.8");
        }
    }
    tell("What Postern says of it: before a login is tried, and after it was refused.");
    let explained = postern(scene, &["explain", ALICE.name, BRAZIL]);
    insist(explained.contains("refuse") && explained.contains("Brazil"), "explain names refusal and country");
    let activity = postern(scene, &["activity"]);
    insist(activity.contains(BRAZIL) && activity.contains(ALICE.name), "activity names account and address");
    tell("A wrong password stays wrong, wherever it comes from.");
    let wrong = scene.login_as(Way::Imap, GERMANY, ALICE.name, "guess");
    heard(&format!("{} by Imap from {GERMANY} (Germany), with a wrong password", ALICE.name), &wrong);
    insist(!wrong.yes, "a wrong password gets nobody in");
}

fn exemptions(scene: &Scene) {
    chapter("Exemptions");
    tell("Bob lives on a ship. His mailbox is exempt from login checks, wherever he is.");
    postern(scene, &["exemptions", "user", "add", BOB.name, "--note=at sea"]);
    for way in [Way::Imap, Way::SmtpPlain] {
        insist(login(scene, way, &BOB, JAPAN, "Japan").yes, "an exempt mailbox gets in from anywhere");
    }
    tell(
        "Alice is not exempt. Exim's own question at AUTH does not know yet who is logging in, so it leaves her \
         to Dovecot, which does.",
    );
    let reply = login(scene, Way::SmtpPlain, &ALICE, JAPAN, "Japan");
    insist(!reply.yes, "an exemption for Bob does not let Alice in");
    tell("An office in Brazil has a fixed address. It is exempt too; everybody gets in from there.");
    postern(scene, &["exemptions", "ip", "add", BRAZIL, "--note=branch office"]);
    insist(login(scene, Way::Imap, &ALICE, BRAZIL, "Brazil, exempt").yes, "an exempt address gets in");
    tell("And Alice travels: South Africa is allowed for her, for a week.");
    postern(scene, &["allowances", "add", ALICE.name, "ZA", "--until=7d"]);
    insist(
        login(scene, Way::Imap, &ALICE, SOUTH_AFRICA, "South Africa").yes,
        "a temporary allowance lets its mailbox in",
    );
}

fn clouds(scene: &Scene) {
    chapter("Nobody logs in from a rented machine");
    tell(
        "Thieves rent machines in the allowed countries. At first Postern only records such logins; the administrator \
         turns the rule on, and lets in the one billing service that he knows.",
    );
    postern(scene, &["settings", "set", "source_rule", "enforce"]);
    postern(scene, &["exemptions", "ip", "add", BILLING, "--note", "billing"]);
    let refused = login(scene, Way::Imap, &ALICE, CLOUD, "a data centre in Germany");
    insist(!refused.yes, "nobody gets in from a rented machine");
    postern(scene, &["explain", ALICE.name, CLOUD]);
    let billing = login(scene, Way::SmtpPlain, &ALICE, BILLING, "the same data centre, exempt");
    insist(billing.yes, "the billing service gets in");
}

fn the_limiter(scene: &Scene) {
    chapter("150 messages in five minutes");
    tell("Something on Alice's computer begins to send. After 150 messages in five minutes it is stopped.");
    let mut smtp = scene.smtp(GERMANY);
    insist(smtp.auth_plain(ALICE.name, ALICE.password).yes, "Alice logs in");
    let mut send = || smtp.send(ALICE.name, &["friend@remote.test"], "An offer");
    for number in 1..=LIMIT {
        let reply = send();
        insist(reply.yes, &format!("message {number} passes: {reply}"));
    }
    let stopped = send();
    heard(&format!("{} sends message {}", ALICE.name, LIMIT + 1), &stopped);
    insist(stopped.says("451 4.7.1"), "message 151 is refused for now with 451 4.7.1");
    eventually("150 messages leave, and not one more", || scene.mail_outside().len() == LIMIT);
    tell("She can still read her mail.");
    insist(login(scene, Way::Imap, &ALICE, GERMANY, "Germany").yes, "a blocked sender still reads");
    tell("Within a minute, one notice is in the administrator's mailbox. Here it is, read by IMAP:");
    scene.postern(&["tick"]).succeeded();
    eventually("the notice arrives", || !scene.mail_of(&ADMIN).is_empty());
    let mut imap = scene.imap(GERMANY);
    insist(imap.login(ADMIN.name, ADMIN.password).yes, "the administrator logs in");
    let notice = imap.read_inbox();
    heard(&format!("{} reads INBOX", ADMIN.name), &notice);
    insist(
        scene.mail_of(&ADMIN).len() == 1 && notice.says(ALICE.name),
        "exactly one notice, and it names Alice",
    );
    chapter("Released");
    tell("Alice's computer is clean again. The block would end by itself after six hours; it need not.");
    insist(postern(scene, &["blocks", "list"]).contains(ALICE.name), "the block is listed");
    postern(scene, &["blocks", "release", ALICE.name, "--reason=computer cleaned"]);
    let again = send();
    heard(&format!("{} sends again", ALICE.name), &again);
    insist(again.yes, "after the release Alice sends at once");
}

fn the_end(scene: &Scene) {
    chapter("What it looked like");
    scene.postern(&["tick"]).succeeded();
    let statistics = postern(scene, &["statistics"]);
    insist(
        ["Germany", "Brazil", "Japan"].iter().all(|country| statistics.contains(country)),
        "the statistics name the countries",
    );
    postern(scene, &["audit"]);
    insist(scene.exim_panic_log().is_empty(), "Exim has nothing to complain about");
    tell("That was all true: every step above was checked while it was told.");
}
