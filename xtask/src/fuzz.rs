//! `cargo xtask fuzz`: random bytes for every decoder that takes bytes from outside.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{project::Project, python::Environment, shell, tools};

/// What to feed, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this target; without it all, one after another.
    target: Option<String>,
    /// For how long to feed each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Options {
    /// All targets, each for this long.
    pub(crate) fn all(seconds: u64) -> Self {
        Self { target: None, seconds }
    }
}

/// Runs the targets; an input that makes one fail is left in `fuzz/artifacts`.
pub(crate) fn main(project: &Project, options: &Options) -> Result<()> {
    tools::nightly()?;
    let environment = Environment::prepare(project)?;
    environment.add(Path::new(tools::REQUIREMENTS))?;
    let host = shell::output(Command::new("rustc").args(["+nightly", "--print", "host-tuple"]))?;
    let build = project.target.join("fuzz");
    let cargo_fuzz = |action: &str| {
        let mut command = environment.command("cargo");
        // No sanitizer: our code has no unsafe code, and panics, hangs and memory that grows are found without one.
        command
            .args(["+nightly", "fuzz", action, "--sanitizer", "none", "--target", &host, "--target-dir"])
            .arg(&build);
        // Flags of the caller would replace the instrumentation.
        command.env_remove("RUSTFLAGS").env_remove("RUSTUP_TOOLCHAIN");
        command
    };
    let targets = shell::output(environment.command("cargo").args(["+nightly", "fuzz", "list"]))?;
    let chosen: Vec<_> =
        targets.lines().filter(|name| options.target.as_ref().is_none_or(|only| only == name)).collect();
    if chosen.is_empty() {
        bail!("there is no such target; there are: {}", targets.replace('\n', ", "));
    }
    shell::headline("Fuzz: build");
    shell::run(&mut cargo_fuzz("build"))?;
    for (index, target) in chosen.iter().enumerate() {
        shell::headline(&format!("Fuzz {}/{}: {target}", index + 1, chosen.len()));
        let corpus = project.root.join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
        let seeds = project.root.join("fuzz/seeds").join(target);
        let mut command = cargo_fuzz("run");
        command.arg(target).args([corpus, seeds]).args(["--", "-timeout=10", "-print_final_stats=1", "-verbosity=0"]);
        shell::run(command.arg(format!("-max_total_time={}", options.seconds)))?;
    }
    Ok(())
}
