//! Who gets in from where: every login rule through every door, by every way to log in, with the right
//! password and with a wrong one; and what Postern says of it afterwards.

mod table;

use crate::clients::{Reply, Way};
use crate::rig::{Doors, DovecotDoor, Pair, Scene, at_once, eventually};
use crate::told;
use std::collections::BTreeMap;
use table::End::{In, OutByAccount, OutByAddress};
use table::{AMERICAN, Case, GERMAN, GERMAN_V6, JAPANESE, NOWHERE, PARTS};

/// One login of the table.
struct Try {
    case: &'static Case,
    way: Way,
    right: bool,
}

/// What a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Welcome,
    /// These words of the server's own.
    Words(&'static str),
    /// This code of Postern's, its sentence and a reference.
    Refusal(&'static str),
}

/// How Dovecot begins the line that shows the text of its policy server.
const IMAP_REFUSAL: &str = "a NO [ALERT]";
const POP3_REFUSAL: &str = "-ERR [AUTH]";

const SENTENCE: &str = "Logins from this country are not allowed here.";

impl Try {
    /// Country and reason, where the login is to be refused.
    fn refused(&self) -> Option<(&'static str, &'static str)> {
        match self.case.3 {
            In => None,
            OutByAddress(country, reason) | OutByAccount(country, reason) => Some((country, reason)),
        }
    }

    /// Whether Exim's AUTH door refuses it, which looks at the address alone.
    fn out_at_auth(&self, doors: Doors) -> bool {
        doors.exim && self.way.is_smtp() && matches!(self.case.3, OutByAddress(..))
    }

    /// Whether Dovecot's door refuses it.
    fn out_at_dovecot(&self, doors: Doors) -> bool {
        doors.dovecot.is_some() && self.refused().is_some() && !self.out_at_auth(doors)
    }

    fn out_at_policy(&self, doors: Doors) -> bool {
        doors.has_policy() && self.out_at_dovecot(doors)
    }

    /// Whether the login works, and the message that follows is refused.
    fn out_at_mail(&self, doors: Doors) -> bool {
        let logged_in = self.right && !self.out_at_auth(doors) && !self.out_at_dovecot(doors);
        doors.exim && self.way.is_smtp() && logged_in && self.refused().is_some()
    }

    fn expected(&self, doors: Doors) -> Seen {
        if self.out_at_auth(doors) {
            return Seen::Refusal("535 5.7.8");
        }
        match self.way {
            _ if self.right && !self.out_at_dovecot(doors) => Seen::Welcome,
            // Exim keeps the policy server's text to itself.
            Way::Pop3 if self.out_at_policy(doors) => Seen::Refusal(POP3_REFUSAL),
            way if !way.is_smtp() && self.out_at_policy(doors) => Seen::Refusal(IMAP_REFUSAL),
            way if way.is_smtp() => Seen::Words("535 Incorrect authentication data"),
            Way::Pop3 => Seen::Words("-ERR [AUTH] Authentication failed."),
            _ => Seen::Words("a NO [AUTHENTICATIONFAILED] Authentication failed."),
        }
    }

    /// Logs in, and begins a message where that is possible.
    fn play(&self, scene: &Scene) -> (Reply, Option<Reply>) {
        let (_, from, who, _) = self.case;
        let password = if self.right { who.password } else { "guessed" };
        if !self.way.is_smtp() {
            return (scene.login_as(self.way, from, who.name, password), None);
        }
        let mut smtp = scene.smtp(from);
        let login = match self.way {
            Way::SmtpLogin => smtp.auth_login(who.name, password),
            Way::SmtpCramMd5 => smtp.auth_cram_md5(who.name, password),
            _ => smtp.auth_plain(who.name, password),
        };
        let mail = login.yes.then(|| smtp.ask(&format!("MAIL FROM:<{}>", who.name)));
        (login, mail)
    }
}

/// What Postern is to say at the end: Activity and statistics, as `told` reads them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    activity: BTreeMap<String, i64>,
    statistics: BTreeMap<String, i64>,
}

impl Account {
    /// A login that is refused has one line for both.
    fn tally_lines(&self) -> usize {
        let lines = self.statistics.iter().filter(|(what, _)| !what.ends_with("refused")).map(|(_, n)| *n);
        usize::try_from(lines.sum::<i64>()).unwrap()
    }

    fn add(&mut self, login: &Try, doors: Doors) {
        let (_, from, who, end) = *login.case;
        let address: postern::address::Address = from.parse().unwrap();
        let mut count = |column: &str| {
            *self.statistics.entry(format!("{} {column}", country_of(from))).or_default() += 1;
        };
        if doors.dovecot.is_some() || (doors.exim && login.way.is_smtp()) {
            count("tried");
        }
        let account = match () {
            () if login.out_at_auth(doors) => "-",
            () if login.out_at_dovecot(doors) || login.out_at_mail(doors) => who.name,
            () => {
                if login.right && (doors.has_policy() || (doors.exim && login.way.is_smtp())) {
                    count("succeeded");
                }
                let told_by_exim = doors.exim && doors.dovecot.is_none() && login.way.is_smtp();
                if !login.right && (doors.has_policy() || told_by_exim) {
                    count("failed");
                }
                return;
            }
        };
        count("refused");
        let (OutByAddress(country, reason) | OutByAccount(country, reason)) = end else { unreachable!() };
        let service = match login.way {
            Way::Imap | Way::ImapCramMd5 => "imap",
            Way::Pop3 => "pop3",
            _ => "smtp",
        };
        let event = format!("{account} {address} {country} {service} refuse {reason}");
        *self.activity.entry(event).or_default() += 1;
    }
}

fn country_of(address: &str) -> &'static str {
    match address {
        GERMAN | GERMAN_V6 | "::ffff:5.9.0.1" => "DE",
        AMERICAN => "US",
        JAPANESE => "JP",
        NOWHERE | "10.1.2.3" | "127.0.0.1" | "::1" => "-",
        _ => "BR",
    }
}

fn table_holds(pair: Pair, doors: Doors) {
    let scene = Scene::on(pair).doors(doors).start();
    let counted_by = match doors.dovecot {
        Some(DovecotDoor::Policy) => "policy",
        Some(_) => "gate",
        None => "exim",
    };
    for service in ["smtp", "imap", "pop3"].into_iter().filter(|s| *s == "smtp" || counted_by != "exim") {
        scene.api(&["set_setting", &format!("key={service}_logins_from"), &format!("value={counted_by}")]);
    }
    let mut expected = Account::default();
    for part in &PARTS {
        part.says.iter().for_each(|words| drop(scene.api(words)));
        scene.clock(part.clock);
        let tries: Vec<Try> = part
            .cases
            .iter()
            .flat_map(|case| Way::ALL.map(|way| (case, way)))
            .flat_map(|(case, way)| [true, false].map(|right| Try { case, way, right }))
            // A refused login costs half a second: of the wrong passwords, one way of each service.
            .filter(|login| login.right || [Way::SmtpLogin, Way::ImapCramMd5, Way::Pop3].contains(&login.way))
            .collect();
        for some in tries.chunks(66) {
            for (login, (reply, mail)) in some.iter().zip(at_once(some, |login| login.play(&scene))) {
                let case =
                    format!("{pair:?} {doors:?} {:?} {:?} right: {}", login.case, login.way, login.right);
                shows(&scene, &reply, login.expected(doors), login, &case);
                let after =
                    if login.out_at_mail(doors) { Seen::Refusal("550 5.7.1") } else { Seen::Words("250 OK") };
                mail.iter().for_each(|reply| shows(&scene, reply, after, login, &case));
                expected.add(login, doors);
            }
        }
        // Servers tell how a login ended after they have answered the client. A keeper folds the tally itself.
        eventually("every login was told of", || match doors.keeper {
            true => told::statistics(&scene) == expected.statistics,
            false => told::tally_lines(&scene) >= expected.tally_lines(),
        });
    }
    let told = Account { activity: told::activity(&scene), statistics: told::statistics(&scene) };
    assert_eq!(told, expected, "{pair:?} {doors:?}");
    assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?} {doors:?}");
    let log = scene.syslog();
    let lines = log.iter().filter(|line| line.contains("event=refuse")).count();
    assert_eq!(
        lines,
        usize::try_from(told.activity.values().sum::<i64>()).unwrap(),
        "one line for each refusal"
    );
    assert!(
        !log.concat().contains("secret-of") && !log.concat().contains("guessed"),
        "a password in the log"
    );
}

/// Compares; a reference leads to the refusal in Activity.
#[track_caller]
fn shows(scene: &Scene, reply: &Reply, expected: Seen, login: &Try, case: &str) {
    match expected {
        Seen::Welcome => assert!(reply.yes, "{case}: {reply}"),
        Seen::Words(words) => assert_eq!(reply.text, words, "{case}"),
        Seen::Refusal(code) => {
            let text = told::one_line(reply);
            let reference = told::reference(&text).unwrap_or_else(|| panic!("{case}: {reply}"));
            assert_eq!(text, format!("{code} {SENTENCE} Reference {reference}."), "{case}");
            let event = told::under_reference(scene, reference);
            assert_eq!(event["reason"], login.refused().unwrap().1, "{case}: {event}");
        }
    }
}

#[test]
fn every_rule_holds_with_both_doors() {
    table_holds(Pair::Bookworm, Doors::BOTH);
}

#[test]
fn every_rule_holds_with_dovecots_gate_alone() {
    table_holds(Pair::Bookworm, Doors::DOVECOT);
}

#[test]
fn every_rule_holds_with_the_chain_around_a_password_program() {
    table_holds(Pair::Bookworm, Doors { dovecot: Some(DovecotDoor::Chain), ..Doors::NONE });
}

#[test]
fn every_rule_holds_with_dovecots_policy_server_alone() {
    Pair::ALL.into_iter().for_each(|pair| table_holds(pair, Doors::POLICY));
}

#[test]
fn every_rule_holds_with_dovecots_policy_server_and_exims_door() {
    Pair::ALL.into_iter().for_each(|pair| table_holds(pair, Doors::EXIM_AND_POLICY));
}

#[test]
fn with_exims_door_alone_smtp_is_guarded_and_reading_is_not() {
    Pair::ALL.into_iter().for_each(|pair| table_holds(pair, Doors::EXIM));
}

#[test]
fn every_rule_holds_with_the_keeper() {
    Pair::ALL.into_iter().for_each(|pair| table_holds(pair, Doors::EXIM_AND_POLICY.and_keeper()));
}

#[test]
fn explaining_says_what_the_servers_do() {
    let scene = Scene::on(Pair::Bookworm).doors(Doors::BOTH).start();
    for part in &PARTS {
        part.says.iter().for_each(|words| drop(scene.api(words)));
        scene.clock(part.clock);
        for case in part.cases {
            let (_, from, who, end) = case;
            let said = scene.api(&["explain", &format!("account={}", who.name), &format!("address={from}")]);
            match end {
                In => assert_eq!(said["verdict"], "allow", "{case:?}: {said}"),
                OutByAddress(_, reason) | OutByAccount(_, reason) => {
                    assert_eq!(
                        (&said["verdict"], &said["reason"]),
                        (&"refuse".into(), &(*reason).into()),
                        "{case:?}"
                    );
                }
            }
        }
    }
    assert_eq!(told::activity(&scene), BTreeMap::new(), "explaining records nothing");
}
