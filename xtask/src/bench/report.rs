//! Figures, and the document that shows them.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context, Result};
use serde::Serialize;

use super::machine;
use crate::project::Project;

/// What one bench found.
#[derive(Serialize)]
pub(super) struct Section {
    pub(super) title: &'static str,
    /// How it was measured.
    pub(super) method: String,
    pub(super) figures: Vec<Figure>,
    pub(super) costs: Vec<Cost>,
}

/// One measured thing, with what it should be and, where there is one, a peer.
#[derive(Serialize)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) measured: Series,
    pub(super) peer: Option<Peer>,
    pub(super) target: Target,
}

/// What a figure is compared with: measured in the same run.
#[derive(Serialize)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) measured: Series,
}

/// The values of all runs.
#[derive(Serialize, Default, Clone)]
#[serde(transparent)]
pub(super) struct Series(pub(super) Vec<f64>);

#[derive(Serialize, Clone, Copy)]
pub(super) enum Unit {
    EventsPerSecond,
    Micros,
    MicrosPerEvent,
    MicrosPerRule,
    BytesPerEvent,
    BytesPerRule,
    Mebibytes,
    /// So many times as much.
    Times,
}

/// What a figure should be.
#[derive(Serialize, Clone, Copy)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
    AtLeastTimesPeer(f64),
    AtMostTimesPeer(f64),
    AtMostPeerPlus(f64),
    /// Shown for comparison only.
    Information,
}

/// CPU microseconds an event, by process.
#[derive(Serialize)]
pub(super) struct Cost {
    pub(super) case: String,
    pub(super) hub: Series,
    pub(super) redis: Series,
    pub(super) clients: Series,
}

impl Series {
    pub(super) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        Some(match sorted.len() {
            0 => return None,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        })
    }

    /// The median, with the least and the most when there are several.
    fn shown(&self, unit: Unit) -> String {
        let Some(median) = self.median() else { return "–".into() };
        let (least, most) = self.0.iter().fold((f64::MAX, f64::MIN), |(least, most), &x| (least.min(x), most.max(x)));
        match self.0.len() {
            1 => unit.shown(median),
            _ => format!("{} ({} – {})", unit.shown(median), unit.number(least), unit.number(most)),
        }
    }
}

impl Unit {
    fn number(self, value: f64) -> String {
        let decimals = match self {
            Self::EventsPerSecond | Self::Micros | Self::BytesPerEvent | Self::BytesPerRule => 0,
            Self::Mebibytes | Self::MicrosPerRule => 1,
            Self::MicrosPerEvent | Self::Times => 2,
        };
        let text = format!("{value:.decimals$}");
        let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        let mut grouped = String::new();
        for (index, digit) in whole.chars().enumerate() {
            if index > 0 && (whole.len() - index) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped + rest
    }

    fn shown(self, value: f64) -> String {
        let name = match self {
            Self::EventsPerSecond => "events/s",
            Self::Micros => "µs",
            Self::MicrosPerEvent => "µs/event",
            Self::MicrosPerRule => "µs/rule",
            Self::BytesPerEvent => "bytes/event",
            Self::BytesPerRule => "bytes/rule",
            Self::Mebibytes => "MiB",
            Self::Times => "times",
        };
        format!("{} {name}", self.number(value))
    }
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        Some(self.measured.median()? / self.peer.as_ref()?.measured.median()?)
    }

    /// Whether the target is met, where there is one.
    fn met(&self) -> Option<bool> {
        let measured = self.measured.median()?;
        let peer = || self.peer.as_ref()?.measured.median();
        Some(match self.target {
            Target::AtLeast(wanted) => measured >= wanted,
            Target::AtMost(wanted) => measured <= wanted,
            Target::AtLeastTimesPeer(times) => measured >= times * peer()?,
            Target::AtMostTimesPeer(times) => measured <= times * peer()?,
            Target::AtMostPeerPlus(more) => measured <= peer()? + more,
            Target::Information => return None,
        })
    }

    fn target(&self) -> String {
        match self.target {
            Target::AtLeast(wanted) => format!("≥ {}", self.unit.shown(wanted)),
            Target::AtMost(wanted) => format!("≤ {}", self.unit.shown(wanted)),
            Target::AtLeastTimesPeer(times) => format!("≥ {times} × peer"),
            Target::AtMostTimesPeer(times) => format!("≤ {times} × peer"),
            Target::AtMostPeerPlus(more) => format!("≤ peer + {}", self.unit.shown(more)),
            Target::Information => "–".into(),
        }
    }

    fn row(&self) -> String {
        let peer = self
            .peer
            .as_ref()
            .map_or_else(|| "–".into(), |peer| format!("{}: {}", peer.name, peer.measured.shown(self.unit)));
        let ratio = self.ratio().map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}"));
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let measured = self.measured.shown(self.unit);
        format!("| {} | {} | {measured} | {peer} | {ratio} | {met} |", self.name, self.target())
    }
}

impl Section {
    /// The section as it stands in the document.
    pub(super) fn text(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.method);
        text.push_str("| figure | target | measured | peer | ratio | met |\n|---|---|---|---|---|---|\n");
        for figure in &self.figures {
            text.push_str(&figure.row());
            text.push('\n');
        }
        if !self.costs.is_empty() {
            text.push_str("\n| CPU µs per event | hub | Redis | clients |\n|---|---|---|---|\n");
        }
        for Cost { case, hub, redis, clients } in &self.costs {
            let cell = |series: &Series| series.median().map_or("–".into(), |value| format!("{value:.2}"));
            // Writing to a text cannot fail.
            let _ = writeln!(text, "| {case} | {} | {} | {} |", cell(hub), cell(redis), cell(clients));
        }
        text
    }
}

/// Writes `target/bench/results.json`, and where the figures are `to_keep` their sections of docs/performance.md: those of
/// other benches stay as they are.
pub(super) fn write(project: &Project, sections: &[Section], runs: usize, to_keep: bool) -> Result<()> {
    let machine = machine::description();
    let about: BTreeMap<_, _> = machine.iter().cloned().collect();
    let results = serde_json::json!({
        "date": today(), "runs": runs, "kept": to_keep, "machine": about, "sections": sections,
    });
    let put = |path: std::path::PathBuf, text: String| {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
        anyhow::Ok(())
    };
    put(project.target.join("bench/results.json"), serde_json::to_string_pretty(&results)?)?;
    if to_keep {
        let path = project.root.join("docs/performance.md");
        let before = fs::read_to_string(&path).unwrap_or_default();
        put(path, document(&before, &machine, sections, runs))?;
    }
    Ok(())
}

/// The document with these sections new, and all others as they were.
fn document(before: &str, machine: &[(&'static str, String)], sections: &[Section], runs: usize) -> String {
    let mut text = String::from(
        "# Measured speed and memory\n\n\
         Written by `cargo xtask bench`; `cargo xtask bench NAME` measures one section anew. Each figure is the median of \
         several runs, with the least and the most in parentheses; the peer is measured in the same run, in turns with it, \
         and the ratio is that of the medians. Servers, load and peers share the machine's cores. CPU is user and system \
         time of a whole process, from `/proc`.\n\n| machine | |\n|---|---|\n",
    );
    for (name, value) in machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let heading = |section: &str| section.lines().next().unwrap_or_default().to_owned();
    let mut parts: Vec<String> = before.split("\n## ").skip(1).map(|part| part.trim_end().to_owned()).collect();
    for section in sections {
        let new = section.text();
        let (title, rest) = new.trim_start_matches("## ").split_once("\n\n").unwrap_or_default();
        let new = format!("{title}\n\n{runs} runs on {}.\n\n{}", today(), rest.trim_end());
        match parts.iter_mut().find(|part| heading(part) == heading(title)) {
            Some(part) => *part = new,
            None => parts.push(new),
        }
    }
    for part in parts {
        let _ = write!(text, "\n## {part}\n");
    }
    text
}

fn today() -> String {
    jiff::Timestamp::now().strftime("%F").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(measured: &[f64], peer: &[f64], target: Target) -> Figure {
        let peer = (!peer.is_empty()).then(|| Peer { name: "peer".into(), measured: Series(peer.into()) });
        Figure { name: "x".into(), unit: Unit::EventsPerSecond, measured: Series(measured.into()), peer, target }
    }

    #[test]
    fn a_bench_alone_renews_its_own_section() {
        let section = |title, method: &str| Section { title, method: method.into(), figures: vec![], costs: vec![] };
        let first = document("", &[("cores", "2".into())], &[section("A", "old a."), section("B", "old b.")], 5);
        let second = document(&first, &[("cores", "4".into())], &[section("A", "new a."), section("C", "c.")], 7);
        assert!(!second.contains("old a.") && second.contains("| cores | 4 |") && !second.contains("| cores | 2 |"));
        let places = ["new a.", "old b.", "c."].map(|text| second.find(text));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{second}");
        assert_eq!((second.matches("7 runs").count(), second.matches("5 runs").count()), (2, 1));
    }

    #[test]
    fn a_target_is_met_or_not_by_medians() {
        for (target, met) in [
            (Target::AtLeast(20.0), Some(true)),
            (Target::AtLeast(21.0), Some(false)),
            (Target::AtMost(20.0), Some(true)),
            (Target::AtMost(19.0), Some(false)),
            (Target::AtLeastTimesPeer(2.0), Some(true)),
            (Target::AtLeastTimesPeer(2.1), Some(false)),
            (Target::AtMostTimesPeer(2.0), Some(true)),
            (Target::AtMostTimesPeer(1.9), Some(false)),
            (Target::AtMostPeerPlus(10.0), Some(true)),
            (Target::AtMostPeerPlus(9.0), Some(false)),
            (Target::Information, None),
        ] {
            assert_eq!(figure(&[900.0, 20.0, 1.0], &[10.0, 0.0, 11.0], target).met(), met);
        }
        assert_eq!(figure(&[1.0], &[], Target::AtMostTimesPeer(9.0)).met(), None, "no peer, no verdict");
    }

    #[test]
    fn a_row_shows_everything_that_the_verdict_rests_on() {
        let row = figure(&[1_234_567.0, 1_000_000.0, 2_000_000.0], &[500_000.0], Target::AtLeastTimesPeer(3.0)).row();
        assert_eq!(
            row,
            "| x | ≥ 3 × peer | 1,234,567 events/s (1,000,000 – 2,000,000) | peer: 500,000 events/s | 2.47 | **no** |"
        );
    }
}
