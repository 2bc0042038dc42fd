//! `cargo xtask ci`: the tests, then every check, all of them even when one fails.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;

use crate::{architecture, documents, fuzz, project::Project, python, python::Environment, shell, test, tools};

const TESTS: &str = "tests";
const FUZZ_SECONDS: u64 = 10;

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these: `tests`, `format`, `lint` and so on.
    names: Vec<String>,
}

/// A check, with what it wants to be known although it passed.
struct Step {
    name: &'static str,
    run: fn(&Project) -> Result<Option<String>>,
}

const STEPS: [Step; 7] = [
    Step { name: "architecture", run: |_| nothing_more(architecture::check()) },
    Step { name: "documents", run: |project| nothing_more(documents::check(project)) },
    Step { name: "format", run: format },
    Step { name: "lint", run: lint },
    Step { name: "rustdoc", run: rustdoc },
    Step { name: "dependencies", run: dependencies },
    Step { name: "fuzz", run: |project| nothing_more(fuzz::main(project, &fuzz::Options::all(FUZZ_SECONDS))) },
];

/// Runs everything and prints the table; `false` when a test or a check failed.
pub(crate) fn main(project: &Project, options: &Options) -> Result<bool> {
    let known = |name: &str| name == TESTS || STEPS.iter().any(|step| step.name == name);
    if let Some(name) = options.names.iter().find(|name| !known(name)) {
        bail!("there is no check {name}; there are {TESTS}, {}", STEPS.map(|step| step.name).join(", "));
    }
    let wanted = |name: &str| options.names.is_empty() || options.names.iter().any(|wanted| wanted == name);
    let start = Instant::now();
    let (mut good, mut table, mut closing) = (true, Vec::new(), None);
    if wanted(TESTS) {
        let tally = test::run(project, &test::Options::default())?;
        good = tally.failed == 0;
        table.push(row(TESTS, good, start.elapsed(), &tally.line()));
        closing = Some(tally.line());
    }
    for step in STEPS.iter().filter(|step| wanted(step.name)) {
        shell::headline(&format!("Check: {}", step.name));
        let start = Instant::now();
        let (passed, note) = match (step.run)(project) {
            Ok(note) => (true, note.unwrap_or_default()),
            Err(error) => (false, format!("{error:#}")),
        };
        if !note.is_empty() {
            println!("{note}");
        }
        good &= passed;
        table.push(row(step.name, passed, start.elapsed(), note.lines().next().unwrap_or_default()));
    }
    shell::headline(&format!("Checks, in {}", shell::human(start.elapsed())));
    println!("{}", table.join("\n"));
    if let Some(line) = closing {
        println!("{line}");
    }
    Ok(good)
}

fn row(name: &str, passed: bool, elapsed: Duration, note: &str) -> String {
    format!("{} {name:<14} {:>8}  {note}", if passed { "ok    " } else { "FAILED" }, shell::human(elapsed))
}

fn nothing_more(outcome: Result<()>) -> Result<Option<String>> {
    outcome.map(|()| None)
}

fn format(project: &Project) -> Result<Option<String>> {
    shell::run(Command::new("cargo").args(["fmt", "--all", "--check"]))?;
    shell::run(Command::new("cargo").args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))?;
    let environment = checks(project)?;
    shell::run(environment.command("ruff").args(["format", "--check", "python"]))?;
    Ok(None)
}

fn lint(project: &Project) -> Result<Option<String>> {
    shell::run(Command::new("cargo").args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let environment = checks(project)?;
    shell::run(environment.command("ruff").args(["check", "python"]))?;
    for package in python::packages(project)? {
        // In the package's folder, where its own settings are.
        shell::run(environment.command("mypy").args(["--strict", "src"]).current_dir(package))?;
    }
    Ok(None)
}

fn rustdoc(_: &Project) -> Result<Option<String>> {
    let mut command = Command::new("cargo");
    shell::run(command.args(["doc", "--no-deps", "--workspace"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(None)
}

fn dependencies(project: &Project) -> Result<Option<String>> {
    let environment = checks(project)?;
    let deny = |arguments: &[&str]| {
        let mut command = environment.command("cargo-deny");
        command.args(["--locked", "--all-features"]).args(arguments);
        command
    };
    shell::run(&mut deny(&["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    if shell::run(&mut deny(&["fetch", "db"])).is_err() {
        return Ok(Some("advisories not checked: the advisory database cannot be reached from here".into()));
    }
    shell::run(&mut deny(&["check", "--disable-fetch", "advisories"]))?;
    Ok(None)
}

/// The Python environment with the checkers in it.
fn checks(project: &Project) -> Result<Environment> {
    let environment = Environment::prepare(project)?;
    environment.add(Path::new(tools::REQUIREMENTS))?;
    Ok(environment)
}
