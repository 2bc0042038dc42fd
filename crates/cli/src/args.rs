//! The command line: what can be said, and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};

const AFTER: &str = "\
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 the hub or its backend cannot be reached, try again · 4 the hub refused \
the input · 130 interrupted

A first event:
  synapse serve
  synapse publish model-events '{\"event\": \"model-ready\", \"model_name\": \"classifier\", \"version\": \"v2.0\"}'
  synapse subscribe model-events --from 2025-01-01 --filter model_name=classifier";

/// Where the help of a command lists what every command has.
const GLOBAL: &str = "Global options";

/// The event-streaming hub for AI platforms: typed events in, filtered events out.
#[derive(Debug, Parser)]
#[command(name = "synapse", version, after_help = AFTER, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The hub's address, like http://127.0.0.1:8002 or just a host; without a port it is 8002.
    #[arg(long, global = true, help_heading = GLOBAL, env = "SYNAPSE_URL", default_value = synapse_hub_client::DEFAULT_URL, value_name = "URL")]
    pub(crate) url: String,
    /// For people, or for machines (JSON).
    #[arg(long, short, global = true, help_heading = GLOBAL, value_enum, default_value_t = Output::Human)]
    pub(crate) output: Output,
    /// Colours; `auto` has them on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Human,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the hub.
    Serve(Serve),
    /// Publish events: from the command line, a file, or standard input (NDJSON).
    Publish(Publish),
    /// Follow topics, from any moment in history.
    #[command(visible_alias = "tail")]
    Subscribe(Subscribe),
    /// List, describe, create, delete and trim topics.
    #[command(subcommand)]
    Topics(Topics),
    /// Replay a range of history, to standard output or into another topic.
    Replay(Replay),
    /// Measure a running hub.
    #[command(subcommand)]
    Bench(Bench),
    /// Show and check configurations. Without a subcommand: the commented default file.
    Config {
        #[command(subcommand)]
        command: Option<Config>,
    },
    /// Explain what is wrong with an address, a backend, a version, a clock.
    Doctor(Doctor),
    /// Completions for a shell, on standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Backends: embedded:FOLDER (default embedded:./synapse-data) · redis://[USER:PASSWORD@]HOST:PORT/DB · rediss://… · memory:\n\
                        Every setting, with its default: synapse config"
)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Where events are kept.
    #[arg(long, value_name = "URL")]
    pub(crate) backend: Option<String>,
    /// The configuration file [default: $SYNAPSE_CONFIG, else ./synapse.toml where there is one].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The log level: error, warn, info, debug, trace, or directives.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Any other setting by its dotted key, such as `limits.event_bytes=2097152`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  synapse publish model-events '{\"event\": \"model-ready\", \"model_name\": \"a\", \"version\": \"1\"}'\n  \
                        synapse publish model-events --event model-ready --data model_name=a --data version='\"1\"'\n  \
                        synapse publish model-events --file events.ndjson\n  cat events.ndjson | synapse publish model-events"
)]
pub(crate) struct Publish {
    /// The topic.
    pub(crate) topic: String,
    /// Events as flat JSON objects, or lists of them. Without any, and without --event: from standard input, one a line.
    pub(crate) events: Vec<String>,
    /// Read events from this file: NDJSON, or one JSON list.
    #[arg(long, short, value_name = "FILE", conflicts_with = "events")]
    pub(crate) file: Option<PathBuf>,
    /// Make one event of this type.
    #[arg(long, value_name = "TYPE", conflicts_with_all = ["events", "file"])]
    pub(crate) event: Option<String>,
    /// A field of that event; the value is JSON, or else text.
    #[arg(long, value_name = "KEY=VALUE", requires = "event")]
    pub(crate) data: Vec<String>,
    /// What the reply must promise.
    #[arg(long, value_enum)]
    pub(crate) durability: Option<Durability>,
    /// Store what is acceptable, rather than refusing a batch whole.
    #[arg(long)]
    pub(crate) partial: bool,
    /// The source of events that have none of their own.
    #[arg(long, env = "SYNAPSE_SOURCE", value_name = "TEXT")]
    pub(crate) source: Option<String>,
    /// The partition key of all events: those with one key keep their order.
    #[arg(long, value_name = "TEXT")]
    pub(crate) key: Option<String>,
    /// How many events go in one request.
    #[arg(long, default_value_t = 500, value_name = "EVENTS", value_parser = value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Durability {
    Memory,
    Stored,
    Synced,
}

#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Only events that match: KEY=VALUE (the value is JSON, or else text), or an event pattern as JSON. Several KEY=VALUE must all match; several
    /// patterns are alternatives.
    #[arg(long, short, value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
    /// Where to end: a date, a date-time, a duration ago (-90m), a position, a cursor, `latest`.
    #[arg(long, allow_hyphen_values = true, value_name = "PLACE")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  synapse subscribe model-events\n  synapse tail 'pipeline.*' --from -90m --filter status=failed\n  \
                        synapse subscribe inference-events --filter '{\"latency_ms\": [{\"numeric\": [\">\", 250]}]}' -o json | jq ."
)]
pub(crate) struct Subscribe {
    /// Topics, or patterns: `*` is one token between dots, `>` the rest.
    #[arg(required = true)]
    pub(crate) topics: Vec<String>,
    /// Where to start: `latest`, `earliest`, a date, a date-time, a duration ago (-90m), a position, a cursor.
    #[arg(long, default_value = "latest", allow_hyphen_values = true, value_name = "PLACE")]
    pub(crate) from: String,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Stop after so many events.
    #[arg(long, short = 'n', value_name = "EVENTS")]
    pub(crate) limit: Option<u64>,
    /// Print the cursor to resume from to standard error at the end.
    #[arg(long)]
    pub(crate) cursor: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topics {
    /// List topics with what they hold.
    List {
        /// A name or a pattern.
        #[arg(default_value = "")]
        pattern: String,
    },
    /// Show a topic's settings and partitions.
    Describe {
        /// The topic.
        topic: String,
    },
    /// Create a topic.
    Create(Create),
    /// Delete a topic with all its events.
    Delete {
        /// The topic.
        topic: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Remove a topic's oldest events.
    Trim {
        /// The topic.
        topic: String,
        /// Everything before this place: a date, a date-time, a duration ago, a position, `latest` (all).
        #[arg(long, allow_hyphen_values = true, value_name = "PLACE", required_unless_present = "keep")]
        before: Option<String>,
        /// All but the latest so many a partition.
        #[arg(long, value_name = "EVENTS")]
        keep: Option<u64>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Layout {
    Flat,
    Packed,
}

#[derive(Debug, Args)]
#[command(
    after_help = "What is left out is as the hub's configuration says ([topics.default]); a time or a limit of 0 is none."
)]
pub(crate) struct Create {
    /// The topic.
    pub(crate) topic: String,
    /// How many partitions.
    #[arg(long)]
    pub(crate) partitions: Option<u32>,
    /// What an acknowledgement promises.
    #[arg(long, value_enum)]
    pub(crate) durability: Option<Durability>,
    /// On Redis: one entry an event (flat), or one a batch (packed): faster, readable through Synapse only.
    #[arg(long, value_enum)]
    pub(crate) layout: Option<Layout>,
    /// Store the same `source` and `id` once within this time, such as 10m.
    #[arg(long, value_name = "DURATION")]
    pub(crate) dedup_window: Option<humantime::Duration>,
    /// Remove events that are older, such as 7days.
    #[arg(long, value_name = "DURATION")]
    pub(crate) retention: Option<humantime::Duration>,
    /// Remove the oldest events beyond so many bytes.
    #[arg(long, value_name = "BYTES")]
    pub(crate) retention_bytes: Option<u64>,
    /// Remove the oldest events beyond so many.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) retention_events: Option<u64>,
    /// It is no error if the topic exists with these settings.
    #[arg(long)]
    pub(crate) if_not_exists: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  synapse replay model-events --from 2025-01-01 --until 2025-02-01 > january.ndjson\n  \
                        synapse replay inference-events --from -6h --filter success=false --to inference-retry"
)]
pub(crate) struct Replay {
    /// Topics, or patterns.
    #[arg(required = true)]
    pub(crate) topics: Vec<String>,
    /// Where to start.
    #[arg(long, default_value = "earliest", allow_hyphen_values = true, value_name = "PLACE")]
    pub(crate) from: String,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Publish into this topic, with the events' ids kept, rather than to standard output.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) to: Option<String>,
    /// At most so many events a second.
    #[arg(long, value_name = "EVENTS")]
    pub(crate) rate: Option<u32>,
    /// Only count.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Pipelined publishing.
    Publish(Load),
    /// Publishing, and subscriptions that receive what they filter for.
    E2e(Load),
    /// One event at a time: from the call to publish to its delivery.
    Latency(Load),
    /// Subscriptions that are held open.
    Subscribe(Load),
}

#[derive(Debug, Args)]
#[command(
    after_help = "With --output json one object: name, events, seconds, events_per_second, cpu_seconds (of this process), latency_us \
                        {p50, p90, p99, p999, max} where it was measured."
)]
pub(crate) struct Load {
    /// The topic.
    #[arg(long, default_value = "synapse-bench")]
    pub(crate) topic: String,
    /// How many events [default: 100000; 2000 where latency is measured, one at a time].
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    pub(crate) events: Option<u64>,
    /// How many subscriptions.
    #[arg(long, default_value_t = 1)]
    pub(crate) subscriptions: u64,
    /// How many events a batch.
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u32).range(1..))]
    pub(crate) batch: u32,
    /// For how long subscriptions are held open.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// The configuration in force, from file and environment, without passwords.
    Show {
        /// The file.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Check a file.
    Check {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Look at this backend as well, as `synapse serve --backend` takes it.
    #[arg(long, value_name = "URL")]
    pub(crate) backend: Option<String>,
}
