//! The binary `synapse`: the hub, and its client on the command line.

mod args;
mod commands;
mod failure;
mod input;
mod output;

use std::{process::ExitCode, sync::Arc};

use clap::Parser as _;

use crate::{args::Cli, failure::Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Both Redis and gRPC may speak TLS, and must agree on who does the cryptography.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Arc::new(Cli::parse());
    output::set_color(cli.global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("cannot start: {error}")).report(&cli.global),
    };
    // On a worker: what runs on this thread has to wake a worker for every step of a connection.
    let command = cli.clone();
    let work = runtime.spawn(async move { commands::run(&command).await });
    let outcome = runtime.block_on(work).unwrap_or_else(|error| Err(Failure::failed(format!("a defect: {error}"))));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&cli.global),
    }
}
