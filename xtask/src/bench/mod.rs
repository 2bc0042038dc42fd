//! `cargo xtask bench`: speed and memory, each figure against a peer measured in the same run.
//!
//! A bench is one entry of [`BENCHES`]: it measures its cases in turns, run after run, so that a slow minute of the
//! machine meets all of them alike, and returns a [`Section`] of figures.

mod fanout;
mod latency;
mod load;
mod machine;
mod matcher;
mod memory;
mod process;
mod publish;
mod python;
mod redis;
mod report;
mod servers;

use std::{fs, process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use crate::{project::Project, shell, tools};

use report::Section;

/// The fewest runs whose medians are kept.
const RUNS_MIN: usize = 5;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these benches; without any, all. Their sections of docs/performance.md are written.
    names: Vec<String>,
    /// How often each case is measured; the figures are medians.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A smoke run: one run, few events. Its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Measure the debug build: for work on the benches themselves.
    #[arg(long)]
    debug: bool,
}

/// Measures one subject.
struct Bench {
    name: &'static str,
    /// Whether it runs hubs and Redis.
    servers: bool,
    run: fn(&Session) -> Result<Section>,
}

const BENCHES: [Bench; 7] = [
    Bench { name: "publish", servers: true, run: publish::publish },
    Bench { name: "end-to-end", servers: true, run: publish::end_to_end },
    Bench { name: "fan-out", servers: true, run: fanout::run },
    Bench { name: "latency", servers: true, run: latency::run },
    Bench { name: "python", servers: true, run: python::run },
    Bench { name: "memory", servers: true, run: memory::run },
    Bench { name: "matcher", servers: false, run: matcher::run },
];

/// What benches share: how often, how many, where, and what the terminal shows.
struct Session<'p> {
    project: &'p Project,
    profile: &'static str,
    runs: usize,
    quick: bool,
    folder: TempDir,
    bar: ProgressBar,
}

/// Runs the benches, prints their figures, and writes their sections of the document.
pub(crate) fn main(project: &Project, options: &Options) -> Result<()> {
    let benches: Vec<_> = BENCHES
        .into_iter()
        .filter(|bench| options.names.is_empty() || options.names.iter().any(|name| name == bench.name))
        .collect();
    if let Some(unknown) = options.names.iter().find(|name| !BENCHES.iter().any(|bench| bench.name == **name)) {
        bail!("there is no bench {unknown}; there are {}", BENCHES.map(|bench| bench.name).join(", "));
    }
    machine::check()?;
    if benches.iter().any(|bench| bench.servers) {
        tools::redis()?;
        build(options)?;
    }
    let session = Session::new(project, options)?;
    let mut sections = Vec::new();
    for bench in benches {
        session.bar.set_message(bench.name);
        let section = (bench.run)(&session).with_context(|| format!("bench {}", bench.name))?;
        session.say(&section.text());
        sections.push(section);
    }
    session.bar.finish_and_clear();
    let to_keep = session.runs >= RUNS_MIN && !options.quick && !options.debug;
    if !to_keep {
        println!("docs/performance.md stays as it is: it wants {RUNS_MIN} runs of the release build");
    }
    report::write(project, &sections, session.runs, to_keep)
}

fn build(options: &Options) -> Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--package", "synapse-hub-cli"]);
    shell::run(if options.debug { &mut build } else { build.arg("--release") })
}

impl<'p> Session<'p> {
    fn new(project: &'p Project, options: &Options) -> Result<Self> {
        let profile = if options.debug { "debug" } else { "release" };
        // Not in /tmp, which may be memory rather than a disk.
        let parent = project.target.join("bench");
        fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template("{spinner} [{elapsed_precise}] {msg}")?);
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        let runs = if options.quick { 1 } else { options.runs.max(1) };
        Ok(Self { project, profile, runs, quick: options.quick, folder: tempfile::tempdir_in(parent)?, bar })
    }

    /// How many events to use where a whole run uses this many.
    fn scaled(&self, events: u64) -> u64 {
        if self.quick { events / 20 } else { events }
    }

    /// Runs each case once, in turns, as often as was asked for.
    fn rounds(&self, mut cases: Vec<Case<'_>>) -> Result<()> {
        for round in 1..=self.runs {
            for case in &mut cases {
                self.bar.set_message(format!("{} (run {round} of {})", case.name, self.runs));
                let start = Instant::now();
                let result = (case.run)().with_context(|| format!("{}, run {round}", case.name))?;
                self.say(&format!(
                    "{:<40} run {round}/{}: {result} ({})",
                    case.name,
                    self.runs,
                    shell::human(start.elapsed())
                ));
            }
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }
}

/// One thing that is measured; it says in a few words what came out.
struct Case<'a> {
    name: String,
    run: Box<dyn FnMut() -> Result<String> + 'a>,
}

impl<'a> Case<'a> {
    fn new(name: impl Into<String>, run: impl FnMut() -> Result<String> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}
