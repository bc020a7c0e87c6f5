//! Figures: percentiles, ratios of rounds, tables, and the targets at the end.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The value below which this share of the values lies.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// Asks every contender once a round, in an order that rotates; the first round does not count. `one` is told
/// the contender's number; a figure for each of them and each round comes back.
pub(crate) fn in_rounds(
    rounds: usize,
    contenders: usize,
    mut one: impl FnMut(usize) -> f64,
) -> Vec<Vec<f64>> {
    let mut figures = vec![Vec::new(); contenders];
    for round in 0..=rounds {
        for turn in 0..contenders {
            let contender = (round + turn) % contenders;
            let figure = one(contender);
            if round > 0 {
                figures[contender].push(figure);
            }
        }
    }
    figures
}

/// Round by round.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn says(self) -> String {
        match self {
            Bound::AtLeast(bound) => format!("at least {bound}"),
            Bound::AtMost(bound) => format!("at most {bound}"),
        }
    }

    fn is_met(self, by: f64) -> bool {
        match self {
            Bound::AtLeast(bound) => by >= bound,
            Bound::AtMost(bound) => by <= bound,
        }
    }
}

/// Everything that was found, for people on standard output and for programs in a file.
pub(crate) struct Report {
    targets: Vec<String>,
    lines: File,
}

impl Report {
    pub(crate) fn begin(path: &Path) -> Report {
        Report { targets: Vec::new(), lines: File::create(path).unwrap() }
    }

    /// One figure for programs: a line of JSON.
    pub(crate) fn figure(&mut self, part: &str, name: &str, unit: &str, per_round: &[f64]) {
        let line = serde_json::json!({ "part": part, "name": name, "unit": unit, "rounds": per_round });
        writeln!(self.lines, "{line}").unwrap();
    }

    /// Holds what was found against a target.
    pub(crate) fn target(&mut self, what: &str, bound: Bound, found: &[f64]) {
        self.figure("target", what, &bound.says(), found);
        let (middle, least, most) = (median(found), percentile(found, 0.0), percentile(found, 1.0));
        let mut line = format!("| {what} | {} | **{}**", bound.says(), short(middle));
        if least < most {
            let _ = write!(line, " ({} to {})", short(least), short(most));
        }
        let _ = write!(line, " | {} |", if bound.is_met(middle) { "met" } else { "**missed**" });
        self.targets.push(line);
    }

    /// All targets, and how far the figures can be trusted.
    pub(crate) fn end(self, noise: &str) {
        println!("\n## Targets (median of the rounds, least to most)\n");
        println!("| what | target | found | |\n|---|---|---|---|");
        self.targets.iter().for_each(|line| println!("{line}"));
        println!("\n{noise}");
    }
}

/// Two digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 10.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
