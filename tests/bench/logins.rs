//! Logins a second through a real Dovecot, with and without Postern as its policy server: the keeper answers two
//! requests for each. Two folders with the same Dovecot stand side by side.

use crate::Effort;
use crate::clients::Way;
use crate::figures::{Bound, Report, in_rounds, median, ratios};
use crate::machine::Machine;
use crate::rig::{ALICE, BOB, CAROL, DAVE, Doors, Mailbox, Pair, Scene};
use std::time::Instant;

const CLIENTS: usize = 8;

/// Logins of one measurement, all clients together.
const LOGINS: usize = 400;

const GERMAN: &str = "79.192.0.1";
const BRAZILIAN: &str = "200.160.2.3";

pub(crate) fn measure(effort: &Effort, report: &mut Report, machine: &mut Machine) {
    let with = Scene::on(Pair::Bookworm).doors(Doors::POLICY.and_keeper()).start();
    let without = Scene::on(Pair::BookwormPeers).doors(Doors::NONE).start();
    for service in ["smtp", "imap", "pop3"] {
        with.api(&["set_setting", &format!("key={service}_logins_from"), "value=policy"]);
    }
    with.api(&["set_setting", "key=default_server_geoip", "value=DE"]);
    with.api(&["set_countries", "countries=DE"]);
    with.api(&["set_setting", "key=country_rule", "value=enforce"]);
    let scenes = [&without, &with];
    let rates = in_rounds(effort.rounds, scenes.len(), |n| {
        machine.listen();
        rate(scenes[n], effort.of(LOGINS) / CLIENTS)
    });
    assert!(without.login(Way::Imap, BRAZILIAN, &ALICE).yes);
    assert!(!with.login(Way::Imap, BRAZILIAN, &ALICE).yes, "the policy server is asked");
    // A policy server that does not answer in time is an error there, and the login goes on.
    let log = with.dovecot_log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("Error")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    println!("| Dovecot 2.3, IMAP, {CLIENTS} clients | logins a second |\n|---|---|");
    for (name, rates) in ["without a policy server", "with the keeper as policy server"].iter().zip(&rates) {
        println!("| {name} | {:.0} |", median(rates));
        report.figure("logins", name, "1/s", rates);
    }
    let what = format!("Dovecot's logins a second, {CLIENTS} clients: with the keeper ÷ without");
    report.target(&what, Bound::AtLeast(0.8), &ratios(&rates[1], &rates[0]));
}

/// Clients that log in one time after the other, each over a connection of its own.
fn rate(scene: &Scene, each: usize) -> f64 {
    let mailboxes: [&Mailbox; 4] = [&ALICE, &BOB, &CAROL, &DAVE];
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for _ in 0..each {
                    let reply = scene.login(Way::Imap, GERMAN, mailboxes[client % mailboxes.len()]);
                    assert!(reply.yes, "{reply}");
                }
            });
        }
    });
    (each * CLIENTS) as f64 / begun.elapsed().as_secs_f64()
}
