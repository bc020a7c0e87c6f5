//! Messages per second through a real Exim, with and without the hooks: accepted into the queue, not
//! delivered, so that delivery does not hide the difference.

use crate::Effort;
use crate::figures::{Report, in_rounds, median};
use crate::machine::Machine;
use crate::rig::{ALICE, Doors, Pair, Scene};
use std::time::Instant;

/// Messages of one measurement, over connections of twenty.
const MESSAGES: usize = 400;

pub(crate) fn measure(effort: &Effort, report: &mut Report, machine: &mut Machine) {
    let doors = [Doors::NONE, Doors::EXIM];
    let rates = in_rounds(effort.rounds.min(3), doors.len(), |n| {
        machine.listen();
        rate(doors[n], effort.of(MESSAGES) / 20)
    });
    println!("| Exim 4.96, one client, queued only | messages per second |\n|---|---|");
    for (name, rates) in ["without hooks", "with auth, mail and send hooks"].iter().zip(&rates) {
        println!("| {name} | {:.0} |", median(rates));
        report.figure("messages", name, "1/s", rates);
    }
}

fn rate(doors: Doors, connections: usize) -> f64 {
    let mut scene = Scene::on(Pair::Bookworm).doors(doors).start();
    if doors.exim {
        scene.postern(&["settings", "set", "rate_limit_messages", "100000"]).succeeded();
    }
    queue_only(&mut scene);
    let begun = Instant::now();
    for _ in 0..connections {
        let mut smtp = scene.smtp("79.192.0.1");
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        for _ in 0..20 {
            let reply = smtp.send(ALICE.name, &["friend@remote.test"], "bench");
            assert!(reply.yes, "{reply}");
        }
    }
    (connections * 20) as f64 / begun.elapsed().as_secs_f64()
}

fn queue_only(scene: &mut Scene) {
    let path = scene.path("/etc/exim4/exim4.conf");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("queue_only = true\n{before}")).unwrap();
    scene.restart_servers();
}
