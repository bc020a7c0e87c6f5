//! Messages per second through a real Exim, with and without the hook: accepted into the queue, not
//! delivered, so that delivery does not hide the difference.

use crate::rig::{ALICE, Doors, Pair, Scene};
use std::time::Instant;

/// Messages of one measurement, over connections of twenty.
const MESSAGES: usize = 400;

pub(crate) fn measure() {
    println!("| Exim 4.96, one client, queued only | messages per second |");
    println!("|---|---|");
    // Twice in turn, so that the machine's mood meets both.
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        without.push(rate(Doors::NONE));
        with.push(rate(Doors::EXIM));
    }
    println!("| without the hook | {:.0} |", crate::percentile(&without, 0.5));
    println!("| with auth, mail and send hooks | {:.0} |", crate::percentile(&with, 0.5));
}

fn rate(doors: Doors) -> f64 {
    let mut scene = Scene::on(Pair::Bookworm).doors(doors).start();
    if doors.exim {
        scene.postern(&["settings", "set", "rate_limit_messages", "100000"]).succeeded();
    }
    queue_only(&mut scene);
    let begun = Instant::now();
    for _ in 0..MESSAGES / 20 {
        let mut smtp = scene.smtp("5.9.0.1");
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        for _ in 0..20 {
            let reply = smtp.send(ALICE.name, &["friend@remote.test"], "bench");
            assert!(reply.yes, "{reply}");
        }
    }
    MESSAGES as f64 / begun.elapsed().as_secs_f64()
}

fn queue_only(scene: &mut Scene) {
    let path = scene.path("/etc/exim4/exim4.conf");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("queue_only = true\n{before}")).unwrap();
    scene.restart_servers();
}
