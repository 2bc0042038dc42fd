//! The commands, one module each.

mod bench;
mod config;
mod doctor;
mod publish;
mod replay;
mod serve;
mod subscribe;
mod topics;

use clap::CommandFactory as _;
use synapse_hub_client::{Client, ClientOptions};

use crate::{
    args::{Cli, Command, Global},
    failure::Failure,
};

pub(crate) async fn run(cli: &Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match &cli.command {
        // Serving and measuring end by themselves when they are interrupted.
        Command::Serve(args) => serve::run(global, args).await,
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "synapse", &mut std::io::stdout());
            Ok(())
        }
        Command::Subscribe(args) => subscribe::run(global, args).await,
        Command::Publish(args) => interruptible(publish::run(global, args)).await,
        Command::Topics(args) => interruptible(topics::run(global, args)).await,
        Command::Replay(args) => interruptible(replay::run(global, args)).await,
        Command::Bench(args) => interruptible(bench::run(global, args)).await,
        Command::Config { command } => config::run(global, command.as_ref()),
        Command::Doctor(args) => interruptible(doctor::run(global, args)).await,
    }
}

async fn interruptible(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    }
}

fn client(global: &Global) -> Result<Client, Failure> {
    let options = ClientOptions { name: "synapse-cli".into(), ..ClientOptions::default() };
    Client::new(&global.url, options).map_err(|error| Failure::usage(error.message))
}

/// Those of the topics, patterns left out, that do not exist. What cannot be looked up counts as there.
async fn missing<'a>(client: &Client, topics: &'a [String]) -> Vec<&'a str> {
    let mut missing = Vec::new();
    for topic in topics.iter().filter(|topic| !topic.contains(['*', '>'])) {
        if client.topics().describe(topic).await.is_err_and(|error| error.code == "topic_not_found") {
            missing.push(topic.as_str());
        }
    }
    missing
}
