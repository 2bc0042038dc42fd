//! `synapse subscribe`

use std::io::Write as _;

use serde_json::{Map, Value, json};
use synapse_hub_client::{Batch, EndReason, Format, Item, SubscribeOptions, Subscription};

use super::{client, missing};
use crate::{
    args::{Global, Output, Subscribe},
    failure::Failure,
    input, output,
};

pub(super) async fn run(global: &Global, args: &Subscribe) -> Result<(), Failure> {
    let options = SubscribeOptions {
        topics: args.topics.clone(),
        filters: input::filters(&args.selection.filter)?,
        replay_from: args.from.clone(),
        until: args.selection.until.clone().unwrap_or_default(),
        format: Format::Flat,
        ..SubscribeOptions::default()
    };
    let client = client(global)?;
    let mut subscription = client.subscribe(options).await?;
    if global.output == Output::Human {
        for topic in missing(&client, &args.topics).await {
            eprintln!("no topic `{topic}` yet; waiting for it");
        }
    }
    let mut cut = None;
    let outcome = tokio::select! {
        outcome = follow(&mut subscription, global.output, args.limit, &mut cut) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
    };
    if args.cursor {
        eprintln!("{}", cut.as_deref().unwrap_or(subscription.cursor()));
    }
    outcome
}

/// Prints what comes. Where the limit cuts a batch short, `cut` becomes the cursor after the last event that was printed.
async fn follow(
    subscription: &mut Subscription,
    form: Output,
    limit: Option<u64>,
    cut: &mut Option<String>,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    while left > 0 {
        match subscription.next().await? {
            Some(Item::Batch(batch)) => {
                let printed = print(&batch, form, left)?;
                left -= printed;
                if printed < batch.len() as u64 {
                    *cut = Some(batch.cursor(printed.saturating_sub(1) as usize));
                }
            }
            Some(Item::Gap(gap)) => {
                let lost = gap.lost.map_or("an unknown number of".to_owned(), output::count);
                if form == Output::Json {
                    let object = json!({"gap": {"topic": gap.topic, "partition": gap.partition, "after": gap.after,
                        "earliest": gap.earliest, "lost": gap.lost, "reason": gap.reason}, "cursor": gap.cursor});
                    output::json(&object)?;
                } else {
                    eprintln!(
                        "{} {} events of {} are gone after {} ({}); the earliest is {}",
                        output::yellow_err("gap:"),
                        lost,
                        gap.topic,
                        if gap.after.is_empty() { "the start" } else { &gap.after },
                        gap.reason,
                        if gap.earliest.is_empty() { "yet to come" } else { &gap.earliest }
                    );
                }
            }
            Some(Item::Ended(EndReason::TopicDeleted)) => return Err(Failure::failed("the topic was deleted")),
            Some(Item::Ended(_)) | None => return Ok(()),
            Some(Item::Heartbeat) => {}
        }
    }
    Ok(())
}

/// Prints at most `most` events; returns how many.
fn print(batch: &Batch, form: Output, most: u64) -> Result<u64, Failure> {
    let mut out = Vec::new();
    let events = batch.flat.iter().zip(&batch.positions).take(usize::try_from(most).unwrap_or(usize::MAX));
    let mut printed = 0;
    for (index, (flat, position)) in events.enumerate() {
        printed += 1;
        match form {
            Output::Json => {
                // The event's own text is kept; what Synapse knows of it stands beside it.
                let about = json!({"topic": batch.topic, "partition": batch.partition, "position": position, "cursor": batch.cursor(index)});
                let about = about.to_string();
                out.extend_from_slice(&about.as_bytes()[..about.len() - 1]);
                out.extend_from_slice(b",\"event\":");
                out.extend_from_slice(flat);
                out.extend_from_slice(b"}\n");
            }
            Output::Human => {
                out.extend_from_slice(human(&batch.topic, position, flat).as_bytes());
                out.push(b'\n');
            }
        }
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&out)?;
    stdout.flush()?;
    Ok(printed)
}

/// `12:00:00.123  model-events  model-ready  model_name=classifier version=v2.0`
fn human(topic: &str, position: &str, flat: &[u8]) -> String {
    let Ok(mut object) = serde_json::from_slice::<Map<String, Value>>(flat) else {
        return format!("{topic} {position} {}", String::from_utf8_lossy(flat));
    };
    let mut text = |key: &str| match object.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (kind, time, source, _id) = (text("event"), text("timestamp"), text("source"), text("id"));
    let fields: Vec<String> = object
        .iter()
        .map(|(key, value)| {
            let value = if let Value::String(text) = value { text.clone() } else { value.to_string() };
            format!("{}{}", output::dim(&format!("{key}=")), value)
        })
        .collect();
    format!(
        "{}  {}  {}  {}  {}  {}",
        output::dim(&time),
        output::dim(position),
        output::cyan(topic),
        output::bold(&kind),
        output::dim(&source),
        fields.join(" ")
    )
}
