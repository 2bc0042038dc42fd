//! `cargo xtask test`: every test of every language, one table, one closing line.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::{project::Project, python, shell, tools};

/// What to run.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only this language.
    #[arg(long)]
    only: Option<Language>,
    /// Only tests whose name contains this.
    #[arg(long)]
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Python,
}

/// Installs what the tests of a language need, then runs its suites one by one.
type Suites = fn(&Project, &Options) -> Result<Vec<Outcome>>;

/// To add a language, add an entry.
const LANGUAGES: [(Language, Suites); 2] = [(Language::Rust, rust), (Language::Python, python)];

/// How a suite went.
struct Outcome {
    suite: String,
    tally: Tally,
    elapsed: Duration,
}

/// What the runner itself counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// What the runner said about each test that it did not run.
    pub(crate) skipped: Vec<String>,
}

impl Tally {
    /// The closing line.
    pub(crate) fn line(&self) -> String {
        let skipped = match self.skipped.len() {
            0 => String::new(),
            count => format!(", {count} skipped"),
        };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

/// Runs the command and prints its closing line; `false` when a test failed.
pub(crate) fn main(project: &Project, options: &Options) -> Result<bool> {
    let tally = run(project, options)?;
    println!("{}", tally.line());
    Ok(tally.failed == 0)
}

/// Runs the suites and prints the table.
pub(crate) fn run(project: &Project, options: &Options) -> Result<Tally> {
    tools::redis()?;
    let mut outcomes = Vec::new();
    for (language, suites) in LANGUAGES {
        if options.only.is_none_or(|only| only == language) {
            outcomes.extend(suites(project, options)?);
        }
    }
    shell::headline("Tests");
    let mut total = Tally::default();
    for Outcome { suite, tally, elapsed } in outcomes {
        println!("{suite:<20} {:<32} {:>8}", tally.line(), shell::human(elapsed));
        total.passed += tally.passed;
        total.failed += tally.failed;
        total.skipped.extend(tally.skipped);
    }
    for skipped in &total.skipped {
        println!("not run: {skipped}");
    }
    Ok(total)
}

fn rust(project: &Project, options: &Options) -> Result<Vec<Outcome>> {
    shell::headline("Rust: build");
    let start = Instant::now();
    build(project)?;
    println!("built in {}", shell::human(start.elapsed()));
    shell::headline("Rust: tests");
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--no-fail-fast"]).env("SYNAPSE_BIN", project.binary("debug"));
    if let Some(filter) = &options.filter {
        command.args(["--", filter]);
    }
    Ok(vec![suite("rust", &mut command, options, libtest)?])
}

fn python(project: &Project, options: &Options) -> Result<Vec<Outcome>> {
    shell::headline("Python: environment");
    let environment = python::Environment::prepare(project)?;
    if options.only == Some(Language::Python) {
        build(project)?;
    }
    let (mut outcomes, packages) = (Vec::new(), python::packages(project)?);
    if packages.is_empty() {
        println!("there are no Python packages here, and so no tests of them");
    }
    for package in packages {
        let name = format!("python {}", package.file_name().unwrap_or_default().to_string_lossy());
        shell::headline(&format!("{name}: tests"));
        let mut command = environment.command("pytest");
        command.args(["-ra", "--no-header"]).arg(package.join("tests")).env("SYNAPSE_BIN", project.binary("debug"));
        if let Some(filter) = &options.filter {
            command.args(["-k", filter]);
        }
        outcomes.push(suite(&name, &mut command, options, pytest)?);
    }
    Ok(outcomes)
}

/// Builds the binary and all tests in one go: a build of the binary alone has other features in its dependencies, and
/// would compile much of the workspace a second time.
fn build(project: &Project) -> Result<()> {
    shell::run(Command::new("cargo").args(["build", "--workspace", "--bins", "--tests"]))?;
    let binary = project.binary("debug");
    if !binary.exists() {
        bail!("the build left no {}", binary.display());
    }
    Ok(())
}

/// Runs one runner and counts what it says about its tests.
fn suite(name: &str, command: &mut Command, options: &Options, count: fn(&str, &mut Tally)) -> Result<Outcome> {
    let start = Instant::now();
    let mut tally = Tally::default();
    let status = shell::stream(command, |line| count(line, &mut tally))?;
    let nothing_wanted = options.filter.is_some() && tally == Tally::default();
    if !status.success() && tally.failed == 0 && !nothing_wanted {
        println!("{name}: the runner itself failed ({status}), which counts as one failed test");
        tally.failed = 1;
    }
    if status.success() && tally.passed == 0 && options.filter.is_none() {
        bail!("{name}: the runner ran no test");
    }
    Ok(Outcome { suite: name.into(), tally, elapsed: start.elapsed() })
}

/// What a "test" says that is run all the same: by another test, in a process of its own, to be killed there.
const STARTED_BY_A_TEST: &str = "ignored, started by another test";

/// Counts by the lines of Rust's test runner.
fn libtest(line: &str, tally: &mut Tally) {
    if let Some(result) = line.strip_prefix("test result: ") {
        tally.passed += number_before(result, "passed");
        tally.failed += number_before(result, "failed");
    } else if line.starts_with("test ") && line.contains(" ... ignored") && !line.contains(STARTED_BY_A_TEST) {
        tally.skipped.push(line.into());
    }
}

/// Counts by pytest's closing line and its `-ra` summary.
fn pytest(line: &str, tally: &mut Tally) {
    if line.starts_with("SKIPPED ") || line.starts_with("XFAIL ") {
        tally.skipped.push(line.into());
    } else if let Some((counts, _)) = line.trim_matches(['=', ' ']).rsplit_once(" in ")
        && line.starts_with("==")
    {
        let failures = ["failed", "error", "errors", "xpassed"];
        tally.passed += number_before(counts, "passed");
        tally.failed += failures.into_iter().map(|word| number_before(counts, word)).sum::<u64>();
    }
}

/// The number that stands before a word: 3 in `3 failed, 12 passed`.
fn number_before(text: &str, word: &str) -> u64 {
    let words: Vec<&str> = text.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(count: fn(&str, &mut Tally), output: &str) -> (u64, u64, usize) {
        let mut tally = Tally::default();
        output.lines().for_each(|line| count(line, &mut tally));
        (tally.passed, tally.failed, tally.skipped.len())
    }

    #[test]
    fn rust_results_are_summed_over_binaries() {
        let output = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... ignored, needs a disk\n\
            test d ... ignored, started by another test, in a process of its own\n\
            test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1.20s";
        assert_eq!(counted(libtest, output), (13, 1, 1));
    }

    #[test]
    fn pytest_results_are_read_from_its_closing_line() {
        let output = "python/client/tests/test_a.py ....F [100%]\nSKIPPED [1] test_a.py:3: no reason in particular\n\
            FAILED test_a.py::test_x - assert 3 failed in 2 ways\n\
            ===== 1 failed, 12 passed, 1 skipped, 2 warnings, 1 error in 4.53s =====";
        assert_eq!(counted(pytest, output), (12, 2, 1));
        assert_eq!(counted(pytest, "==== 7 passed in 63.10s (0:01:03) ===="), (7, 0, 0));
        assert_eq!(counted(pytest, "==== no tests ran in 0.01s ===="), (0, 0, 0));
    }

    #[test]
    fn the_closing_line_is_plain() {
        let mut tally = Tally { passed: 3, ..Tally::default() };
        assert_eq!(tally.line(), "3 passed, 0 failed");
        tally.skipped.push("x".into());
        assert_eq!(tally.line(), "3 passed, 0 failed, 1 skipped");
    }
}
