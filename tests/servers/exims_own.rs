//! Exim's own `ratelimit` (Exim specification, "Limiting incoming messages") with the options nearest to the Outbound
//! Rate Limiter's, beside Postern in the same Exim: the same messages, two verdicts, and where and why they differ.
//!
//! Exim keeps one smoothed number for each key, which falls by e to the minus one within the period. Postern keeps the
//! messages of the window, and what goes over it stops the account for a time.

use crate::clients::Reply;
use crate::doing::{OUTSIDE, logged_in};
use crate::rig::{ALICE, BOB, CAROL, DAVE, Doors, ERIN, Mailbox, Pair, Scene, at_once};
use std::thread::sleep;
use std::time::Duration;

/// Exim says here what it would do, and goes on to Postern's snippet.
const THEIRS: &str = "  warn set acl_m_theirs = passes\n  \
      warn ratelimit = 10 / 60s / leaky / per_mail / $authenticated_id\n       set acl_m_theirs = refused\n  \
      warn logwrite = theirs: $authenticated_id $acl_m_theirs\n";

/// What both say of each message.
#[derive(Debug, PartialEq, Eq)]
struct Verdicts {
    ours: String,
    theirs: String,
}

impl Verdicts {
    fn refused_from(said: &str) -> Option<usize> {
        said.find('-')
    }
}

/// Sends so many after so many seconds, one batch after the other; `+` for each that passed, `-` for each other.
fn play(scene: &Scene, who: &Mailbox, batches: &[(u64, usize)]) -> String {
    let mut said = String::new();
    for (wait, messages) in batches {
        sleep(Duration::from_secs(*wait));
        let mut smtp = logged_in(scene, who);
        for _ in 0..*messages {
            let answer: Reply = smtp.send(who.name, &[OUTSIDE], "x");
            assert!(answer.yes || answer.text.contains("451"), "{answer}");
            said.push(if answer.yes { '+' } else { '-' });
        }
    }
    said
}

fn theirs(scene: &Scene, who: &Mailbox) -> String {
    let log = scene.exim_log();
    let of = |verdict: &str| format!("theirs: {} {verdict}", who.name);
    let sign = |line: &str| match (line.contains(&of("passes")), line.contains(&of("refused"))) {
        (true, _) => Some('+'),
        (_, true) => Some('-'),
        _ => None,
    };
    log.lines().filter_map(sign).collect()
}

#[test]
fn exims_own_ratelimit_differs_where_its_smoothing_forgets_sooner_or_later() {
    at_once(&Pair::ALL, |pair| {
        let mut scene = Scene::on(*pair).doors(Doors::EXIM).start();
        for (key, value) in [("rate_limit_messages", 10), ("rate_limit_window", 60), ("rate_limit_block", 60)]
        {
            scene.api(&["set_setting", &format!("key={key}"), &format!("value={value}")]);
        }
        let snippet = scene.path("/rig/hooks/send.conf");
        let ours = std::fs::read_to_string(&snippet).unwrap();
        std::fs::write(&snippet, format!("{THEIRS}{ours}")).unwrap();
        scene.restart_servers();
        let scene = &scene;
        // One account each, all at the same time.
        let traces: [(&Mailbox, &[(u64, usize)]); 5] = [
            (&ALICE, &[(0, 25)]),
            (&BOB, &[(0, 1), (7, 1), (7, 1), (7, 1), (7, 1), (7, 1), (7, 1), (7, 1), (7, 1), (7, 1)]),
            (&CAROL, &[(0, 10), (30, 3)]),
            (&DAVE, &[(0, 10), (62, 10)]),
            (&ERIN, &[(0, 20), (20, 1), (20, 1)]),
        ];
        let played = at_once(&traces, |(who, batches)| {
            let ours = play(scene, who, batches);
            Verdicts { ours, theirs: theirs(scene, who) }
        });
        for ((who, batches), Verdicts { ours, theirs }) in traces.iter().zip(&played) {
            println!("{pair:?} {} {batches:?}\n  Postern {ours}\n  Exim    {theirs}", who.name);
            assert_eq!(ours.len(), theirs.len(), "both saw every message");
        }
        let [burst, steady, soon, later, thief] = &played[..] else { panic!("{played:?}") };
        assert_eq!(burst.ours, "++++++++++---------------");
        // The smoothed number is a little below the count, the more the longer the burst takes.
        let first = Verdicts::refused_from(&burst.theirs);
        assert!(first.is_some_and(|first| (9..20).contains(&first)), "{pair:?} {burst:?}");
        assert_eq!((steady.ours.as_str(), steady.theirs.as_str()), ("++++++++++", "++++++++++"), "{pair:?}");
        // Half a minute after ten messages Exim lets three more pass, thirteen within the minute.
        assert_eq!(
            (soon.ours.as_str(), soon.theirs.as_str()),
            ("++++++++++---", "+++++++++++++"),
            "{pair:?}"
        );
        // A minute after ten messages it still holds a third of them against their sender.
        assert_eq!(later.ours, "+".repeat(20), "{pair:?}");
        assert!(Verdicts::refused_from(&later.theirs).is_some_and(|first| first > 10), "{pair:?} {later:?}");
        // Whoever was refused sends on with Exim as soon as the number has fallen, and is stopped with Postern.
        assert_eq!(thief.ours, format!("{}{}", "+".repeat(10), "-".repeat(12)), "{pair:?}");
        assert!(thief.theirs.contains('-') && thief.theirs.ends_with("++"), "{pair:?} {thief:?}");
    });
}
