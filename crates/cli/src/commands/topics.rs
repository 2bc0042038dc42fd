//! `synapse topics`

use std::io::{BufRead as _, IsTerminal as _};

use serde_json::{Value, json};
use synapse_hub_client::{Durability, Layout, TopicDescription, TopicSettings};

use super::client;
use crate::{
    args::{self, Create, Global, Output, Topics},
    failure::Failure,
    output,
};

pub(super) async fn run(global: &Global, command: &Topics) -> Result<(), Failure> {
    let mut topics = client(global)?.topics();
    match command {
        Topics::List { pattern } => {
            let found = topics.list(pattern).await?;
            match global.output {
                Output::Json => output::json(&Value::Array(found.iter().map(object).collect()))?,
                Output::Human if found.is_empty() && !pattern.is_empty() => {
                    eprintln!("no topic matches `{pattern}`; `synapse topics list` shows all");
                }
                Output::Human if found.is_empty() => eprintln!("no topics yet; publishing makes them"),
                Output::Human => list(&found)?,
            }
        }
        Topics::Describe { topic } => show(global, &topics.describe(topic).await?)?,
        Topics::Create(args) => {
            let made = topics.create(&args.topic, settings(args), args.if_not_exists).await?;
            show(global, &made)?;
        }
        Topics::Delete { topic, yes } => {
            confirm(*yes, &format!("Delete {topic} with all its events?"))?;
            topics.delete(topic).await?;
            done(global, &json!({"deleted": topic}), &format!("deleted {topic}"))?;
        }
        Topics::Trim { topic, before, keep, yes } => {
            confirm(*yes, &format!("Remove the oldest events of {topic}?"))?;
            let removed = topics.trim(topic, before.as_deref().unwrap_or_default(), keep.unwrap_or(0)).await?;
            let told =
                removed.map_or("the oldest events".to_owned(), |removed| format!("{} events", output::count(removed)));
            done(global, &json!({"topic": topic, "removed": removed}), &format!("removed {told} of {topic}"))?;
        }
    }
    Ok(())
}

fn settings(args: &Create) -> TopicSettings {
    let millis = |duration: Option<humantime::Duration>| duration.map(|duration| duration.as_millis() as u64);
    let durability = match args.durability {
        None => Durability::Unspecified,
        Some(args::Durability::Memory) => Durability::Memory,
        Some(args::Durability::Stored) => Durability::Stored,
        Some(args::Durability::Synced) => Durability::Synced,
    };
    let layout = match args.layout {
        None => Layout::Unspecified,
        Some(args::Layout::Flat) => Layout::Flat,
        Some(args::Layout::Packed) => Layout::Packed,
    };
    TopicSettings {
        partitions: args.partitions,
        durability: durability.into(),
        layout: layout.into(),
        dedup_window_ms: millis(args.dedup_window),
        retention_ms: millis(args.retention),
        retention_bytes: args.retention_bytes,
        retention_events: args.retention_events,
    }
}

fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{question} Say --yes, as nobody can be asked here")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::failed("not done")) }
}

fn done(global: &Global, object: &Value, text: &str) -> Result<(), Failure> {
    match global.output {
        Output::Json => output::json(object)?,
        Output::Human => output::line(&format!("{} {text}", output::green("✓")))?,
    }
    Ok(())
}

fn held(topic: &TopicDescription) -> (Option<u64>, Option<u64>) {
    let sum = |of: fn(&synapse_hub_client::PartitionDescription) -> Option<u64>| topic.partitions.iter().map(of).sum();
    (sum(|partition| partition.events), sum(|partition| partition.bytes))
}

fn list(topics: &[TopicDescription]) -> Result<(), Failure> {
    let mut table = output::table(&["topic", "partitions", "events", "bytes", "durability", "latest"]);
    for topic in topics {
        let (events, bytes) = held(topic);
        let latest = topic.partitions.iter().map(|partition| partition.latest.as_str()).max().unwrap_or_default();
        table.add_row([
            topic.topic.clone(),
            topic.partitions.len().to_string(),
            events.map_or("?".into(), output::count),
            bytes.map_or("?".into(), output::bytes),
            durability(topic).to_owned(),
            latest.to_owned(),
        ]);
    }
    Ok(output::line(&table.to_string())?)
}

fn show(global: &Global, topic: &TopicDescription) -> Result<(), Failure> {
    if global.output == Output::Json {
        return Ok(output::json(&object(topic))?);
    }
    let settings = topic.settings.unwrap_or_default();
    let limit = |value: Option<u64>, text: fn(u64) -> String| value.map_or("none".to_owned(), text);
    let millis = |value| limit(value, duration);
    let rows = [
        ("topic", output::bold(&topic.topic)),
        ("durability", format!("{} ({})", durability(topic), topic.durability)),
        ("layout", layout(topic).to_owned()),
        ("dedup window", millis(settings.dedup_window_ms)),
        (
            "retention",
            format!(
                "age {}, bytes {}, events {}",
                millis(settings.retention_ms),
                limit(settings.retention_bytes, output::bytes),
                limit(settings.retention_events, output::count)
            ),
        ),
        ("declared", if topic.declared { "yes".into() } else { "no: found on the backend".into() }),
    ];
    for (name, value) in rows {
        output::line(&format!("{:<14}{value}", output::dim(name)))?;
    }
    let mut table = output::table(&["partition", "events", "bytes", "earliest", "latest"]);
    for partition in &topic.partitions {
        table.add_row([
            partition.partition.to_string(),
            partition.events.map_or("?".into(), output::count),
            partition.bytes.map_or("?".into(), output::bytes),
            partition.earliest.clone(),
            partition.latest.clone(),
        ]);
    }
    Ok(output::line(&table.to_string())?)
}

fn duration(millis: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(millis)).to_string()
}

fn durability(topic: &TopicDescription) -> &'static str {
    match topic.settings.unwrap_or_default().durability() {
        Durability::Memory => "memory",
        Durability::Synced => "synced",
        Durability::Stored | Durability::Unspecified => "stored",
    }
}

fn layout(topic: &TopicDescription) -> &'static str {
    match topic.settings.unwrap_or_default().layout() {
        Layout::Packed => "packed",
        Layout::Flat | Layout::Unspecified => "flat",
    }
}

fn object(topic: &TopicDescription) -> Value {
    let settings = topic.settings.unwrap_or_default();
    let partitions: Vec<Value> = topic
        .partitions
        .iter()
        .map(|partition| {
            json!({"partition": partition.partition, "events": partition.events, "bytes": partition.bytes,
                "earliest": partition.earliest, "latest": partition.latest})
        })
        .collect();
    json!({
        "topic": topic.topic,
        "settings": {
            "partitions": settings.partitions, "durability": durability(topic), "layout": layout(topic),
            "dedup_window_ms": settings.dedup_window_ms, "retention_ms": settings.retention_ms,
            "retention_bytes": settings.retention_bytes, "retention_events": settings.retention_events,
        },
        "durability": topic.durability, "declared": topic.declared, "revision": topic.revision, "partitions": partitions,
    })
}
