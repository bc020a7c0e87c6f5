//! Doors together: each set of doors that an installation may end with, on each pair of servers that can have it,
//! with every service by every port and every way of TLS. A few logins, a few messages; every rule there is is
//! tried in `every_rule`. What a server cannot do, and what happens instead, is told in `cannot`.

mod cannot;

use crate::clients::{Tls, Way};
use crate::doing::{OUTSIDE, allow_germany_alone, limit};
use crate::logins::End::{In, OutByAccount, OutByAddress};
use crate::logins::{Account, Case, GERMAN, GERMAN_V6, Guard, Part, Try, part_holds};
use crate::rig::{ALICE, BOB, CAROL, DAVE, Doors, DovecotDoor, Pair, Scene, at_once};
use crate::told;

/// How Dovecot 2.3's gate or chain is told of ends, and reading is guarded once more.
const TOLD: Doors = Doors { failed: true, postlogin: true, ..Doors::NONE };
const POSTLOGIN: Doors = Doors { postlogin: true, ..Doors::NONE };
const CHAIN: Doors = Doors { dovecot: Some(DovecotDoor::Chain), ..Doors::NONE };
/// Before a policy server that was there already (cPanel's cPHulk).
const BEFORE_ANOTHER: Doors = Doors { other_policy: true, ..Doors::POLICY };
/// The snippets as they are pasted: nobody is asked before AUTH.
const NOT_BEFORE_AUTH: Doors = Doors { before_auth: false, ..Doors::POSTFIX };
const BY_KEEPER: Doors = Doors::POSTFIX_BY_KEEPER;

/// The doors that stand together; each on every pair that can have them.
const COMBINATIONS: &[Doors] = &[
    // Exim, as cPanel has it.
    Doors::EXIM,
    Doors::EXIM.and_keeper(),
    Doors::BOTH,
    Doors::BOTH.and(TOLD),
    Doors::BOTH.and(TOLD).and_keeper(),
    Doors::EXIM.and(CHAIN),
    Doors::EXIM.and(CHAIN).and(TOLD).and_keeper(),
    Doors::EXIM.and(Doors::POLICY),
    Doors::EXIM.and(Doors::POLICY).and_keeper(),
    Doors::EXIM.and(BEFORE_ANOTHER),
    Doors::EXIM.and(BEFORE_ANOTHER).and_keeper(),
    Doors::EXIM.and(POSTLOGIN),
    Doors::EXIM.and(POSTLOGIN).and_keeper(),
    // Postfix, as Plesk has it.
    NOT_BEFORE_AUTH,
    Doors::POSTFIX,
    Doors::POSTFIX.and_keeper(),
    BY_KEEPER,
    Doors::POSTFIX.and(Doors::DOVECOT),
    Doors::POSTFIX.and(Doors::DOVECOT).and(TOLD),
    BY_KEEPER.and(Doors::DOVECOT).and(TOLD),
    Doors::POSTFIX.and(CHAIN).and(TOLD),
    BY_KEEPER.and(CHAIN),
    Doors::POSTFIX.and(Doors::POLICY),
    BY_KEEPER.and(Doors::POLICY),
    BY_KEEPER.and(BEFORE_ANOTHER),
    Doors::POSTFIX.and(POSTLOGIN),
    BY_KEEPER.and(POSTLOGIN),
    // Dovecot alone, whatever sends the mail.
    Doors::DOVECOT.and(TOLD),
    CHAIN.and(TOLD).and_keeper(),
    Doors::POLICY,
    Doors::POLICY.and(POSTLOGIN).and_keeper(),
    POSTLOGIN,
];

/// Each service by each of its ports: 25, 587, 465; 143 in the clear and by STARTTLS, 993; 110 in both ways, 995.
const ROUTES: [(Way, Tls); 9] = [
    (Way::SmtpPlain, Tls::None),
    (Way::SmtpLogin, Tls::Starttls),
    (Way::SmtpCramMd5, Tls::Wrapper),
    (Way::Imap, Tls::None),
    (Way::Imap, Tls::Starttls),
    (Way::ImapCramMd5, Tls::Wrapper),
    (Way::Pop3, Tls::None),
    (Way::Pop3, Tls::Starttls),
    (Way::Pop3, Tls::Wrapper),
];

const NOT_ALLOWED: &str = "country_not_allowed";

/// Who gets in: from an allowed country and not from another, as his own list says, and as exemptions say.
const PARTS: [Part; 2] = [
    Part {
        says: &[
            &["set_countries", "countries=US", "for=other.test"],
            &["add_ip_exemption", "value=200.160.2.77"],
        ],
        clock: "+0",
        cases: &[
            ("allowed country", GERMAN, &ALICE, In),
            ("allowed country, IPv6", GERMAN_V6, &BOB, In),
            ("forbidden country", "200.160.2.3", &ALICE, OutByAddress("BR", NOT_ALLOWED)),
            ("not on the domain's list", GERMAN, &DAVE, OutByAccount("DE", NOT_ALLOWED)),
            ("exempt address", "200.160.2.77", &ALICE, In),
        ],
    },
    Part {
        says: &[&["add_user_exemption", "value=bob@example.test"]],
        clock: "+0",
        cases: &[
            ("exempt mailbox", "200.160.2.5", &BOB, In),
            // From here on the address alone decides nothing.
            ("somebody else is exempt", "200.160.2.5", &ALICE, OutByAccount("BR", NOT_ALLOWED)),
        ],
    },
];

/// Every case by every route with the right password, and the first with a wrong one.
fn tries(cases: &'static [Case]) -> Vec<Try> {
    let right = cases.iter().map(|case| (case, true));
    let logins = right.chain(cases.iter().take(1).map(|case| (case, false)));
    logins.flat_map(|(case, right)| ROUTES.map(|(way, tls)| Try { case, way, tls, right })).collect()
}

/// Three messages where two are allowed, each by another port; then a login to read, and an exemption.
fn limiter_stops(scene: &Scene, guard: Guard, account: &mut Account) {
    const SENDER: Case = ("a sender", GERMAN, &CAROL, In);
    limit(scene, 2);
    let asks = guard.doors.has_mail_server();
    let mut send = |tls, stopped: Option<&'static str>| {
        let login = Try { case: &SENDER, way: Way::SmtpPlain, tls, right: true };
        let mut smtp = scene.smtp_by(tls, GERMAN);
        assert!(smtp.auth_plain(CAROL.name, CAROL.password).yes, "{guard:?} {tls:?}");
        account.login(&login, guard);
        let reply = smtp.send(CAROL.name, &[OUTSIDE], "x");
        match stopped.filter(|_| asks) {
            Some(_) => {
                assert!(told::one_line(&reply).starts_with("451 4.7.1 "), "{guard:?} {tls:?}: {reply}");
            }
            None => assert!(reply.yes, "{guard:?} {tls:?}: {reply}"),
        }
        if asks {
            account.message(&CAROL, GERMAN, stopped);
        }
    };
    send(Tls::None, None);
    send(Tls::Starttls, None);
    send(Tls::Wrapper, Some("over_limit"));
    send(Tls::None, Some("sending_stopped"));
    scene.api(&["add_whitelist", &format!("value={}", CAROL.name)]);
    send(Tls::Starttls, None);
    let reading = Try { case: &SENDER, way: Way::Imap, tls: Tls::Starttls, right: true };
    part_holds(scene, guard, &NOTHING_NEW, &[reading], account);
}

const NOTHING_NEW: Part = Part { says: &[], clock: "+0", cases: &[] };

fn holds(pair: Pair, doors: Doors) {
    let guard = Guard { pair, doors };
    let scene = Scene::on(pair).doors(doors).start();
    guard.choose_sources(&scene);
    allow_germany_alone(&scene);
    let mut account = Account::default();
    for part in &PARTS {
        part_holds(&scene, guard, part, &tries(part.cases), &mut account);
    }
    limiter_stops(&scene, guard, &mut account);
    account.is_told(&scene, guard);
    account.is_all(&scene, guard);
}

/// All that fit on each of these pairs, the pairs at the same time.
fn all_hold(pairs: &[Pair]) {
    at_once(pairs, |pair| {
        COMBINATIONS
            .iter()
            .filter(|doors| doors.unfit(*pair).is_none())
            .for_each(|doors| holds(*pair, *doors));
    });
}

#[test]
fn every_combination_of_doors_holds_with_exim() {
    all_hold(&Pair::ALL);
}

#[test]
fn every_combination_of_doors_holds_with_postfix() {
    all_hold(&Pair::POSTFIX);
}

#[test]
fn each_combination_is_there_once_and_fits_somewhere() {
    for (number, doors) in COMBINATIONS.iter().enumerate() {
        assert!(!COMBINATIONS[..number].contains(doors), "twice: {doors:?}");
        assert!(Pair::EVERY.iter().any(|pair| doors.unfit(*pair).is_none()), "fits nowhere: {doors:?}");
    }
}
