//! A million lines of Exim's log into the state, beside fail2ban-regex on the same file.
//!
//! Five thousand mailboxes, four in ten lines a message of a login, one in ten a failed login, the rest what else Exim
//! writes. Both must find the same failures in the file; ours writes sums of everything into the state as well, and
//! what is counted there is looked up.

use crate::Effort;
use crate::figures::{Bound, Report, in_rounds, median, ratios};
use crate::home::{Home, now};
use crate::machine::Machine;
use crate::rig::{Doors, Pair, Scene};
use postern::clock::written;
use rusqlite::Connection;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Instant;

const MAILBOXES: usize = 5_000;

/// What is read at least, in lines a second.
const LEAST: f64 = 300_000.0;

pub(crate) fn measure(effort: &Effort, report: &mut Report, _machine: &mut Machine) {
    let lines = effort.of(1_000_000);
    let (text, failures) = log_of(lines);
    let scene = Scene::on(Pair::BookwormPeers).doors(Doors { postlogin: true, ..Doors::NONE }).start();
    let inside = "/rig/mainlog";
    let path = scene.path(inside);
    fs::write(&path, &text).unwrap();
    let ours = || {
        let home = Home::new();
        let begun = Instant::now();
        let said = home.postern(&["learn", path.to_str().unwrap()]);
        let took = begun.elapsed().as_secs_f64();
        assert!(said.contains(&format!("{failures} failed")), "{said}");
        let state = Connection::open(home.root().join("var/lib/postern/state/state.db")).unwrap();
        let counted = "SELECT sum(n) FROM traffic_day WHERE direction = 'login' AND verdict = 'failed'";
        let counted: i64 = state.query_row(counted, [], |row| row.get(0)).unwrap();
        assert_eq!(usize::try_from(counted), Ok(failures), "in the state");
        lines as f64 / took
    };
    let theirs = || {
        let begun = Instant::now();
        let words = ["/usr/bin/fail2ban-regex", inside, "/etc/fail2ban/filter.d/exim.conf"];
        let done = Command::new("chroot").arg(scene.path("/")).args(words).output().unwrap();
        let took = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains(&format!("{failures} matched")), "of {failures}: {said}");
        lines as f64 / took
    };
    let found = in_rounds(effort.rounds.min(3), 2, |who| if who == 0 { ours() } else { theirs() });
    println!("| lines a second | median |\n|---|---|");
    for (name, figures) in ["postern learn, into the state", "fail2ban-regex"].iter().zip(&found) {
        println!("| {name} | {:.0} |", median(figures));
        report.figure("logs", name, "lines a second", figures);
    }
    report.target("lines of a log a second, counted in the state", Bound::AtLeast(LEAST), &found[0]);
    report.target("the same ÷ fail2ban-regex", Bound::AtLeast(5.0), &ratios(&found[0], &found[1]));
}

/// So many lines of the last day, and how many of them are failures.
fn log_of(lines: usize) -> (String, usize) {
    let (mut text, mut failures, end) = (String::new(), 0, now());
    for n in 0..lines {
        let at = end - 86_000 + i64::try_from(n * 80_000 / lines).unwrap();
        let who = fastrand::usize(..MAILBOXES);
        let address = format!("79.{}.{}.{}", 192 + who % 32, who / 32 % 256, 1 + n % 3);
        let _ = write!(text, "{} ", written(at));
        let _ = match n % 10 {
            0..4 => writeln!(
                text,
                "1xW1Xt-0000gl-1R <= user{who}@example.test H=(c.test) [{address}]:44125 P=esmtpsa X=TLS1.3:TLS_AES_256_GCM_SHA384:256 CV=no A=dovecot_plain:user{who}@example.test S=3333 id=x{n}@c.test"
            ),
            4 => {
                failures += 1;
                writeln!(
                    text,
                    "dovecot_login authenticator failed for (c.test) [198.51.{}.{}]:44125: 535 Incorrect authentication data (set_id=user{who}@example.test)",
                    n % 256,
                    n / 256 % 256
                )
            }
            5 => writeln!(
                text,
                "1xW1Xt-0000gl-1R <= news{n}@other.test H=mx.other.test [{address}]:25 P=esmtps X=TLS1.3:x:256 CV=no S=7 id=x{n}@other.test"
            ),
            6 | 7 => {
                writeln!(text, "1xW1Xt-0000gl-1R => user{who} <user{who}@example.test> R=mailbox T=mailbox")
            }
            _ => writeln!(text, "1xW1Xt-0000gl-1R Completed"),
        };
    }
    (text, failures)
}
