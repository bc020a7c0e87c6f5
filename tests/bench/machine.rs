//! The machine: what it costs here to start a process that does nothing, and how quiet it was.

use crate::figures::{median, percentile};
use crate::processes::Candidate;
use crate::{built, figures};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::parent_id;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Starts of a program that does nothing, for one look.
const STARTS: usize = 60;

/// From here on a run is called noisy: share of the processors that others used, spread of the no-op.
const OTHERS: f64 = 0.1;
const SPREAD: f64 = 1.3;

pub(crate) struct Machine {
    load_before: String,
    /// Medians of the program that does nothing, µs: on glibc, on musl; at each look.
    noops: Vec<[f64; 2]>,
    /// Shares of all processors that others used while we waited.
    others: Vec<f64>,
}

impl Machine {
    /// Looks, and tells what kind of machine it is.
    pub(crate) fn look() -> Machine {
        let mut machine = Machine { load_before: load(), noops: Vec::new(), others: Vec::new() };
        (0..5).for_each(|_| machine.listen());
        machine.look_again();
        let [glibc, musl] = machine.noops[0];
        println!("CPUID {:.2} µs, write of 4 kB with fdatasync {:.0} µs.", cpuid(), fdatasync());
        println!("A process that does nothing: {glibc:.0} µs on glibc, {musl:.0} µs on musl.");
        println!("Load average at the start {}; {}.", machine.load_before, machine.others());
        machine
    }

    /// Does nothing for a moment, to see what others do meanwhile.
    pub(crate) fn listen(&mut self) {
        let (busy_before, all_before) = jiffies();
        sleep(Duration::from_millis(200));
        let (busy, all) = jiffies();
        self.others.push((busy - busy_before) / (all - all_before).max(1.0));
    }

    pub(crate) fn look_again(&mut self) {
        let programs = ["release/examples/noop", "static/noop"];
        let medians = programs.map(|program| {
            let mut noop = Candidate::new("no-op", built(program), &[], "");
            median(&(0..STARTS).map(|_| noop.start_once("")).collect::<Vec<_>>())
        });
        self.noops.push(medians);
    }

    fn others_mean(&self) -> f64 {
        self.others.iter().sum::<f64>() / self.others.len() as f64
    }

    fn others(&self) -> String {
        let most = percentile(&self.others, 1.0);
        format!(
            "others used {:.0} % of the processors, {:.0} % at most",
            100.0 * self.others_mean(),
            100.0 * most
        )
    }

    /// How far to trust the figures.
    pub(crate) fn noise(&self) -> String {
        let spread = |libc: usize| {
            let all: Vec<f64> = self.noops.iter().map(|look| look[libc]).collect();
            percentile(&all, 1.0) / percentile(&all, 0.0)
        };
        let worst = spread(0).max(spread(1));
        let quiet = worst <= SPREAD && self.others_mean() <= OTHERS;
        format!(
            "Load average {} at the start, {} at the end; {}; the process that does nothing took {worst:.2} times as \
             long at its slowest look as at its fastest. The machine was **{}**.",
            self.load_before,
            load(),
            self.others(),
            if quiet { "quiet" } else { "noisy: these figures say little" }
        )
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').next().unwrap().to_string()
}

/// Time that the processors were busy, and all their time, in ticks.
fn jiffies() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let first = text.lines().next().unwrap();
    let fields: Vec<f64> = first.split_whitespace().skip(1).take(8).map(|f| f.parse().unwrap()).collect();
    let all: f64 = fields.iter().sum();
    // The fourth is idle, the fifth waits for a disk.
    (all - fields[3] - fields[4], all)
}

/// In a virtual machine each of these goes to the host and back, and libc's start has dozens.
fn cpuid() -> f64 {
    let begun = Instant::now();
    for _ in 0..2000 {
        std::hint::black_box(std::arch::x86_64::__cpuid(0));
    }
    begun.elapsed().as_secs_f64() * 1e6 / 2000.0
}

fn fdatasync() -> f64 {
    let path = crate::project().join(format!("target/bench-sync-{}", parent_id()));
    let mut file = File::create(&path).unwrap();
    let times: Vec<f64> = (0..50)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[1; 4096]).unwrap();
            file.sync_data().unwrap();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    fs::remove_file(path).unwrap();
    figures::median(&times)
}
