//! The binary `synapse`: the hub, and its client on the command line.

mod args;
mod commands;
mod failure;
mod input;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{args::Cli, failure::Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Both Redis and gRPC may speak TLS, and must agree on who does the cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    output::set_color(cli.global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("cannot start: {error}")).report(&cli.global),
    };
    let outcome = runtime.block_on(commands::run(&cli));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&cli.global),
    }
}
