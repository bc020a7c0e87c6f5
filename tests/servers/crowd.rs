//! Many at once: the limit is exact however many processes count.

use crate::doing::{OUTSIDE, logged_in, on_each_pair_in_turn};
use crate::rig::{ALICE, BOB, at_once};
use crate::told;
use std::collections::BTreeMap;

const SESSIONS: [u32; 40] = [10; 40];

#[test]
fn forty_sessions_at_once_send_exactly_150_of_400() {
    on_each_pair_in_turn(|scene| {
        let sent = at_once(&SESSIONS, |messages| {
            let mut smtp = logged_in(scene, &ALICE);
            (0..*messages).map(|_| smtp.send(ALICE.name, &[OUTSIDE], "x")).collect::<Vec<_>>()
        });
        let replies: Vec<_> = sent.concat();
        let passed = replies.iter().filter(|reply| reply.yes).count();
        let stopped = replies.iter().filter(|reply| reply.says("451")).count();
        assert_eq!((passed, stopped), (150, 250), "{:?}: {:?}", scene.pair(), told::troubles(scene));
        let blocks = scene.api(&["list_blocks"]);
        assert_eq!((&blocks[0]["value"], &blocks[0]["refused"]), (&ALICE.name.into(), &250.into()));
    });
}

#[test]
fn forty_hooks_at_once_admit_exactly_150_of_400() {
    on_each_pair_in_turn(|scene| {
        let script = format!(
            "for n in 1 2 3 4 5 6 7 8 9 10; do
               /usr/libexec/postern/postern-exim send --from=data --address=79.192.0.1 --account={} --recipients=1
             done",
            BOB.name
        );
        let said =
            at_once(&SESSIONS, |_| scene.run_as("Debian-exim", &["sh", "-c", &script], "").succeeded());
        let mut answers: BTreeMap<String, usize> = BTreeMap::new();
        for line in said.concat().lines() {
            *answers.entry(line.split(' ').take(2).collect::<Vec<_>>().join(" ")).or_default() += 1;
        }
        let expected = BTreeMap::from([("allow".to_owned(), 150), ("defer 451".to_owned(), 250)]);
        assert_eq!(answers, expected, "{:?}: {:?}", scene.pair(), told::troubles(scene));
    });
}
