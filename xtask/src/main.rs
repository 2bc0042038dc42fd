//! Developer commands: `cargo xtask test | ci | fuzz | bench`.

mod architecture;
mod bench;
mod ci;
mod documents;
mod fuzz;
mod project;
mod python;
mod shell;
mod test;
mod tools;

use std::process::ExitCode;

use clap::Parser;

use project::Project;

/// What developers of Synapse run.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Runs every test of every language, and installs what they need.
    Test(test::Options),
    /// Runs the tests and every check: formats, lints, documents, licences, architecture, a short fuzz run.
    Ci(ci::Options),
    /// Feeds random bytes to the decoders that take bytes from outside.
    Fuzz(fuzz::Options),
    /// Measures speed and memory against peers in the same run, and writes docs/performance.md.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = Project::find().and_then(|project| match Command::parse() {
        Command::Test(options) => test::main(&project, &options),
        Command::Ci(options) => ci::main(&project, &options),
        Command::Fuzz(options) => fuzz::main(&project, &options).map(|()| true),
        Command::Bench(options) => bench::main(&project, &options).map(|()| true),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
