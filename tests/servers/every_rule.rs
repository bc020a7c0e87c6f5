//! Who gets in from where: every login rule by every way to log in, with the right password and with a wrong one;
//! and what Postern says of it afterwards. Which doors can stand together is told in `combinations`.

mod table;

use crate::clients::{Tls, Way};
use crate::logins::{Account, End, Guard, Part, Try, part_holds};
use crate::rig::{Doors, DovecotDoor, Pair, Scene, at_once};
use crate::told;
use std::collections::BTreeMap;
use table::PARTS;

/// Every way to log in, in the clear; which way of TLS it is makes no difference to a rule.
fn tries(part: &Part) -> Vec<Try> {
    let logins = part.cases.iter().flat_map(|case| Way::ALL.map(|way| (case, way)));
    logins
        .flat_map(|(case, way)| [true, false].map(|right| Try { case, way, tls: Tls::None, right }))
        // A refused login costs half a second: of the wrong passwords, one way of each service.
        .filter(|login| login.right || [Way::SmtpLogin, Way::ImapCramMd5, Way::Pop3].contains(&login.way))
        .collect()
}

fn table_holds(pair: Pair, doors: Doors) {
    let guard = Guard { pair, doors };
    let scene = Scene::on(pair).doors(doors).start();
    guard.choose_sources(&scene);
    let mut account = Account::default();
    for part in &PARTS {
        part_holds(&scene, guard, part, &tries(part), &mut account);
        account.is_told(&scene, guard);
    }
    account.is_all(&scene, guard);
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
fn every_rule_holds_with_postfixs_doors_and_the_post_login_script() {
    at_once(&Pair::POSTFIX, |pair| table_holds(*pair, Doors { postlogin: true, ..Doors::POSTFIX }));
}

#[test]
fn every_rule_holds_with_postfixs_doors_and_dovecots_policy_server_by_the_keeper() {
    let doors = Doors { dovecot: Some(DovecotDoor::Policy), ..Doors::POSTFIX_BY_KEEPER };
    at_once(&Pair::POSTFIX, |pair| table_holds(*pair, doors));
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
                End::In => assert_eq!(said["verdict"], "allow", "{case:?}: {said}"),
                End::OutByAddress(_, reason) | End::OutByAccount(_, reason) => {
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
