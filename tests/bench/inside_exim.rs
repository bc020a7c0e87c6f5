//! One decision inside Exim's RCPT ACL, by mechanism: `exim -bs` reads MAIL, RCPT and RSET from a file, without
//! a network. What a bare `accept` costs is taken off.

use crate::figures::{Bound, Report, in_rounds, median, ratios};
use crate::home::{KEEPER, Keeper, counted_since, now};
use crate::load::account;
use crate::machine::Machine;
use crate::rig::{Doors, Pair, Scene};
use crate::{Effort, built};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Accounts that send.
const ACCOUNTS: usize = 10_000;

/// Messages of the account that goes over the limit of 150.
const HOT: usize = 160;

struct Mechanism {
    name: &'static str,
    /// Lines of the ACL; the last one accepts.
    acl: &'static str,
    /// Decisions of one measurement.
    decisions: usize,
    /// How many of the hot account's messages it refuses.
    refuses: std::ops::RangeInclusive<usize>,
}

/// What Exim asks ours, in the words of the snippets.
const SOCKET: &str = r"
  deny  set acl_m_said = ${readsocket{/run/postern/sockets/exim}{postern/1 send ${base64:data} ${base64:$sender_host_address} ${base64:$local_part@$domain}   ${base64:1} \n}{1s:shutdown=no}}
        condition = ${if !eq{$acl_m_said}{allow\n}}
        message = $acl_m_said
  accept";
const HOOK: &str = r"
  deny  set acl_m_said = ${run{/usr/libexec/postern/postern-exim send --from=data --address=$sender_host_address --account=$local_part@$domain --recipients=1}}
        condition = ${if !eq{$acl_m_said}{allow\n}}
        message = $acl_m_said
  accept";
const NOOP: &str = r"
  accept condition = ${run{/rig/bench/noop-glibc}{yes}{no}}";
const NOOP_MUSL: &str = r"
  accept condition = ${run{/rig/bench/noop-musl}{yes}{no}}";
const RATELIMIT: &str = r"
  deny  ratelimit = 150 / 5m / per_cmd / strict / $local_part@$domain
  accept";

const ACCEPT: &str = "accept";
const OWN: &str = "Exim's own ratelimit";
const OUR_SOCKET: &str = "${readsocket} to the keeper";
const OUR_HOOK: &str = "${run} of our hook";
const ALONE: &str = "${run} of our hook, no keeper";
const DOES_NOTHING: &str = "${run} of a no-op, Rust on glibc";

const MECHANISMS: [Mechanism; 7] = [
    Mechanism { name: ACCEPT, acl: "\n  accept", decisions: 3_000, refuses: 0..=0 },
    Mechanism { name: OWN, acl: RATELIMIT, decisions: 2_000, refuses: 1..=HOT / 2 },
    Mechanism { name: OUR_SOCKET, acl: SOCKET, decisions: 2_000, refuses: 10..=10 },
    Mechanism { name: "${run} of a no-op, Rust on musl", acl: NOOP_MUSL, decisions: 300, refuses: 0..=0 },
    Mechanism { name: DOES_NOTHING, acl: NOOP, decisions: 300, refuses: 0..=0 },
    Mechanism { name: OUR_HOOK, acl: HOOK, decisions: 300, refuses: 10..=10 },
    Mechanism { name: ALONE, acl: HOOK, decisions: 300, refuses: 10..=10 },
];

pub(crate) fn measure(effort: &Effort, report: &mut Report, machine: &mut Machine) {
    let scene = Scene::on(Pair::BookwormPeers).doors(Doors::EXIM).start();
    prepare(&scene);
    let mut hot = 0;
    let costs = in_rounds(effort.rounds, MECHANISMS.len(), |n| {
        machine.listen();
        let mechanism = &MECHANISMS[n];
        // The hook that works alone has the machine's state for itself.
        let keeper = (mechanism.name != ALONE).then(|| keeper(&scene));
        let decisions = effort.of(mechanism.decisions);
        let start_up = run(&scene, n, 0, &|_| String::new()).0;
        let (counted_from, before) = (now(), counted(&scene, now()));
        let (seconds, accepted) = run(&scene, n, decisions, &|d| account(d * 7_919 % ACCOUNTS));
        assert_eq!(accepted, decisions, "{}", mechanism.name);
        hot += 1;
        let (_, accepted) = run(&scene, n, HOT, &|_| format!("hot{hot}@example.org"));
        let refused = HOT - accepted;
        assert!(mechanism.refuses.contains(&refused), "{} refused {refused} of {HOT}", mechanism.name);
        if mechanism.refuses == (10..=10) {
            let counted = counted(&scene, counted_from) - before;
            assert_eq!(counted, (decisions + accepted) as u64, "{}: each is counted once", mechanism.name);
        }
        drop(keeper);
        (seconds - start_up) * 1e6 / decisions as f64
    });
    let over_accept: Vec<Vec<f64>> = costs
        .iter()
        .map(|cost| cost.iter().zip(&costs[number(ACCEPT)]).map(|(c, a)| c - a).collect())
        .collect();
    println!("A bare accept costs {:.1} µs; over that:\n", median(&costs[number(ACCEPT)]));
    println!("| in Exim's RCPT ACL | µs |\n|---|---|");
    for (mechanism, over) in MECHANISMS.iter().zip(&over_accept).skip(1) {
        println!("| {} | {:.0} |", mechanism.name, median(over));
        report.figure("exim", mechanism.name, "µs", over);
    }
    let ratio = |ours: &str, theirs: &str| ratios(&over_accept[number(ours)], &over_accept[number(theirs)]);
    let what = "inside Exim: ${readsocket} to the keeper ÷ Exim's own ratelimit";
    report.target(what, Bound::AtMost(1.0), &ratio(OUR_SOCKET, OWN));
    let what = "inside Exim: ${run} of our hook, keeper up ÷ ${run} of a no-op, Rust on glibc";
    report.target(what, Bound::AtMost(1.0), &ratio(OUR_HOOK, DOES_NOTHING));
    report.figure("exim", "alone ÷ no-op", "", &ratio(ALONE, DOES_NOTHING));
}

fn number(name: &str) -> usize {
    MECHANISMS.iter().position(|mechanism| mechanism.name == name).unwrap()
}

fn prepare(scene: &Scene) {
    let folder = scene.path("/rig/bench");
    fs::create_dir_all(&folder).unwrap();
    for (name, from) in [("noop-glibc", "release/examples/noop"), ("noop-musl", "static/noop")] {
        fs::copy(built(from), folder.join(name)).unwrap();
    }
    for (number, mechanism) in MECHANISMS.iter().enumerate() {
        fs::write(folder.join(format!("{number}.conf")), configuration(mechanism.acl)).unwrap();
    }
    let script = "mkdir -p /rig/bench/spool /rig/bench/log && chown -R Debian-exim:Debian-exim /rig/bench/spool \
                  /rig/bench/log";
    scene.run_as("root", &["sh", "-c", script], "").succeeded();
}

fn configuration(acl: &str) -> String {
    format!(
        "primary_hostname = server.example.test
spool_directory = /rig/bench/spool
log_file_path = /rig/bench/log/%slog
keep_environment =
smtp_enforce_sync = false
smtp_accept_max_nonmail_hosts = :
smtp_accept_max_per_connection = 1000000
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = it
begin acl
it:{acl}
begin routers
begin transports
"
    )
}

fn keeper(scene: &Scene) -> Keeper {
    let mut command = Command::new("chroot");
    command
        .arg(scene.path("/"))
        .arg("/usr/sbin/postern")
        .args(KEEPER)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin");
    Keeper::begin(command, scene.path("/run/postern/sockets"), 0)
}

fn counted(scene: &Scene, since: i64) -> u64 {
    // Nobody else works with it at this moment, and SQLite gives side files that root makes to the file's owner.
    let state = rusqlite::Connection::open(scene.path("/var/lib/postern/state/state.db")).unwrap();
    counted_since(&state, since)
}

/// Lets Exim decide; seconds, and how many recipients it accepted.
fn run(scene: &Scene, number: usize, decisions: usize, whose: &dyn Fn(usize) -> String) -> (f64, usize) {
    let folder = scene.path("/rig/bench");
    let mut feed = String::from("EHLO client.example.org\r\n");
    for decision in 0..decisions {
        feed += &format!("MAIL FROM:<a@x.test>\r\nRCPT TO:<{}>\r\nRSET\r\n", whose(decision));
    }
    fs::write(folder.join("feed"), feed + "QUIT\r\n").unwrap();
    let open = |name: &str| File::open(folder.join(name)).unwrap();
    let begun = Instant::now();
    let status = Command::new("chroot")
        .arg(scene.path("/"))
        .args(["/usr/sbin/exim4", "-C", &format!("/rig/bench/{number}.conf"), "-bs", "-oMa", "79.192.0.1"])
        .stdin(open("feed"))
        .stdout(File::create(folder.join("said")).unwrap())
        .status()
        .unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    let said = read(&folder.join("said"));
    assert!(status.success() && said.contains("\n221 "), "{}: {said}", MECHANISMS[number].name);
    let accepted = said.matches("\n250 Accepted").count();
    (seconds, accepted)
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}
