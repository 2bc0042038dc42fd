//! `synapse replay`

use std::{io::Write as _, time::Duration};

use serde_json::json;
use synapse_hub_client::{Batch, Client, Format, Item, Publisher, PublisherOptions, SubscribeOptions};

use super::{client, missing};
use crate::{
    args::{Global, Output, Replay},
    failure::Failure,
    input, output,
};

pub(super) async fn run(global: &Global, args: &Replay) -> Result<(), Failure> {
    let client = client(global)?;
    let until = args.selection.until.clone().unwrap_or_else(|| "latest".into());
    let options = SubscribeOptions {
        topics: args.topics.clone(),
        filters: input::filters(&args.selection.filter)?,
        replay_from: args.from.clone(),
        until,
        format: if args.to.is_some() { Format::Events } else { Format::Flat },
        ..SubscribeOptions::default()
    };
    if args.to.as_ref().is_some_and(|to| args.topics.contains(to)) {
        return Err(Failure::usage("replaying a topic into itself would not end; choose another target"));
    }
    if let Some(topic) = missing(&client, &args.topics).await.first() {
        let advice = "`synapse topics list` shows those there are";
        return Err(Failure::with(4, "topic_not_found", format!("there is no topic `{topic}`; {advice}")));
    }
    let total = total(&client, args).await;
    let mut subscription = client.subscribe(options).await?;
    let bar = output::progress(global.output, total, "replaying");
    let publisher =
        args.to.as_deref().filter(|_| !args.dry_run).map(|to| client.publisher(to, PublisherOptions::default()));
    let mut pace = args.rate.filter(|&rate| rate > 0).map(|rate| {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / f64::from(rate)));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        pace
    });
    let (mut events, mut gaps) = (0u64, 0u64);
    while let Some(item) = subscription.next().await? {
        match item {
            Item::Batch(batch) => {
                if let Some(pace) = &mut pace {
                    for _ in 0..batch.len() {
                        pace.tick().await;
                    }
                }
                bar.inc(batch.len() as u64);
                events += batch.len() as u64;
                hand_on(batch, args, publisher.as_ref()).await?;
            }
            Item::Gap(gap) => {
                gaps += 1;
                bar.suspend(|| {
                    eprintln!("{} events of {} are gone after {}", output::yellow_err("gap:"), gap.topic, gap.after)
                });
            }
            Item::Heartbeat => {}
            Item::Ended(_) => break,
        }
    }
    bar.finish_and_clear();
    let mut stored = 0;
    if let Some(publisher) = publisher {
        let report = publisher.finish().await?;
        stored = report.stored;
        if let Some(first) = report.failures.first() {
            return Err(Failure::refused(format!(
                "{} events were not stored; the first: {}",
                report.failed, first.error
            )));
        }
    }
    let summary = json!({"replayed": events, "stored": stored, "gaps": gaps});
    match (global.output, args.dry_run || args.to.is_some()) {
        (Output::Json, true) => output::json(&summary)?,
        (Output::Json, false) => {}
        (Output::Human, _) => eprintln!(
            "{} events {}",
            output::count(events),
            match &args.to {
                _ if args.dry_run => "would be replayed".to_owned(),
                Some(to) => format!("replayed into {to}"),
                None => "replayed".to_owned(),
            }
        ),
    }
    Ok(())
}

async fn hand_on(batch: Batch, args: &Replay, publisher: Option<&Publisher>) -> Result<(), Failure> {
    if let Some(publisher) = publisher {
        for event in batch.events {
            publisher.send(event).await?;
        }
    } else if !args.dry_run && args.to.is_none() {
        let mut out = Vec::new();
        for flat in &batch.flat {
            out.extend_from_slice(flat);
            out.push(b'\n');
        }
        std::io::stdout().lock().write_all(&out)?;
    }
    Ok(())
}

/// How many events there are at most, for the progress bar: only known when everything is replayed.
async fn total(client: &Client, args: &Replay) -> Option<u64> {
    if args.from != "earliest" || !args.selection.filter.is_empty() || args.selection.until.is_some() {
        return None;
    }
    let mut sum = 0;
    for topic in &args.topics {
        for found in client.topics().list(topic).await.ok()? {
            for partition in found.partitions {
                sum += partition.events?;
            }
        }
    }
    Some(sum)
}
