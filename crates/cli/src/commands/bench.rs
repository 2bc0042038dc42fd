//! `synapse bench`: loads a running hub and measures.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use synapse_hub_client::{Client, Event, Item, PublisherOptions, PublisherReport, SubscribeOptions, Subscription};
use tokio::{sync::mpsc, task::JoinSet};

use super::client;
use crate::{
    args::{Bench, Global, Load, Output},
    failure::Failure,
    output,
};

/// Between two events when latency is measured: long enough for everything to be idle.
const IDLE: Duration = Duration::from_millis(2);
/// How many events are sent unless it is said otherwise: as fast as they go, and one at a time.
const EVENTS: u64 = 100_000;
const EVENTS_ONE_BY_ONE: u64 = 2_000;
/// For how long nothing may arrive before a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(global: &Global, command: &Bench) -> Result<(), Failure> {
    let client = client(global)?;
    let cpu = cpu_seconds();
    let (name, mut result) = match command {
        Bench::Publish(load) => ("publish", publish(&client, load, global.output).await?),
        Bench::E2e(load) => ("e2e", e2e(&client, load, global.output).await?),
        Bench::Latency(load) => ("latency", latency(&client, load, global.output).await?),
        Bench::Subscribe(load) => ("subscribe", subscribe(&client, load, global.output).await?),
    };
    result["name"] = name.into();
    result["cpu_seconds"] = json!(cpu_seconds() - cpu);
    show(global, &result)
}

fn show(global: &Global, result: &Value) -> Result<(), Failure> {
    if global.output == Output::Json {
        return Ok(output::json(result)?);
    }
    let number = |key: &str| result[key].as_f64().unwrap_or_default();
    // Where latency is measured, the pauses in between make the rate.
    let rate = match result["latency_us"] {
        Value::Null => format!("{} events/s, ", output::bold(&output::count(number("events_per_second") as u64))),
        _ => String::new(),
    };
    output::line(&format!(
        "{}  {} events in {:.2} s: {rate}{:.2} µs of this process' CPU an event",
        output::bold(result["name"].as_str().unwrap_or_default()),
        output::count(number("events") as u64),
        number("seconds"),
        number("cpu_seconds") * 1e6 / number("events").max(1.0),
    ))?;
    if let Some(latency) = result["latency_us"].as_object() {
        let parts: Vec<String> = latency.iter().map(|(name, micros)| format!("{name} {micros} µs")).collect();
        output::line(&format!("latency  {}", parts.join("  ")))?;
    }
    Ok(())
}

fn measured(events: u64, seconds: f64) -> Value {
    json!({"events": events, "seconds": seconds, "events_per_second": events as f64 / seconds.max(1e-9)})
}

/// An event of ten fields and about 300 bytes.
fn event(number: u64, shard: u64) -> Event {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    let data = format!(
        r#"{{"model_name":"classifier-{:03}","version":"v2.0.1","request_id":"request-{number:012}","latency_ms":{}.25,"success":true,"shard":{shard},"metadata":{{"region":"eu-central-1","framework":"torch"}}}}"#,
        number % 100,
        number % 400,
    );
    Event {
        id: format!("0198f0c0-0000-7000-8000-{number:012}"),
        source: "synapse-bench".into(),
        r#type: "inference-complete".into(),
        time_unix_nanos: nanos,
        data: data.into(),
        ..Event::default()
    }
}

fn publisher_options(load: &Load) -> PublisherOptions {
    PublisherOptions { batch_events_max: load.batch as usize, ..PublisherOptions::default() }
}

fn check(report: &PublisherReport) -> Result<(), Failure> {
    match report.failures.first() {
        Some(first) => {
            Err(Failure::failed(format!("{} events were not stored; the first: {}", report.failed, first.error)))
        }
        None => Ok(()),
    }
}

async fn send_all(client: &Client, load: &Load, events: u64, bar: &indicatif::ProgressBar) -> Result<(), Failure> {
    let publisher = client.publisher(&load.topic, publisher_options(load));
    for number in 0..events {
        publisher.send(event(number, number % load.subscriptions.max(1))).await?;
        if number % 1024 == 0 {
            bar.set_position(number);
        }
    }
    check(&publisher.finish().await?)
}

async fn publish(client: &Client, load: &Load, form: Output) -> Result<Value, Failure> {
    let events = load.events.unwrap_or(EVENTS);
    let bar = output::progress(form, Some(events), "publishing");
    client.publish(&load.topic, vec![event(0, 0)]).await?;
    let start = Instant::now();
    send_all(client, load, events, &bar).await?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    Ok(measured(events, seconds))
}

async fn e2e(client: &Client, load: &Load, form: Output) -> Result<Value, Failure> {
    let events = load.events.unwrap_or(EVENTS);
    let bar = output::progress(form, Some(events), "end to end");
    client.publish(&load.topic, vec![event(0, u64::MAX)]).await?;
    let received = Arc::new(AtomicU64::new(0));
    let mut readers: JoinSet<Result<Instant, Failure>> = JoinSet::new();
    let count = load.subscriptions.max(1);
    for shard in 0..count {
        let wanted = events / count + u64::from(shard < events % count);
        let mut subscription = filtered(client, load, shard).await?;
        let received = received.clone();
        readers.spawn(async move {
            let mut left = wanted;
            let mut last = Instant::now();
            while left > 0 {
                match tokio::time::timeout(PATIENCE, subscription.next()).await {
                    Ok(Ok(Some(Item::Batch(batch)))) => {
                        left = left.saturating_sub(batch.len() as u64);
                        received.fetch_add(batch.len() as u64, Ordering::Relaxed);
                        last = Instant::now();
                    }
                    Ok(Ok(Some(Item::Gap(gap)))) => {
                        return Err(Failure::failed(format!("events were lost: {}", gap.reason)));
                    }
                    Ok(Ok(Some(Item::Heartbeat))) => {}
                    Ok(Ok(_)) => return Err(Failure::failed("a subscription ended early")),
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => return Err(Failure::failed(format!("{left} events did not arrive"))),
                }
            }
            Ok(last)
        });
    }
    // Subscriptions reach the live tail before the load begins.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    send_all(client, load, events, &bar).await?;
    let mut last = start;
    while let Some(reader) = readers.join_next().await {
        bar.set_position(received.load(Ordering::Relaxed));
        last = last.max(reader.map_err(|error| Failure::failed(error.to_string()))??);
    }
    bar.finish_and_clear();
    Ok(measured(events, (last - start).as_secs_f64()))
}

async fn filtered(client: &Client, load: &Load, shard: u64) -> Result<Subscription, Failure> {
    let mut options = SubscribeOptions::new([load.topic.clone()]);
    options.filters.push(format!(r#"{{"shard":[{shard}]}}"#));
    Ok(client.subscribe(options).await?)
}

async fn latency(client: &Client, load: &Load, form: Output) -> Result<Value, Failure> {
    let events = load.events.unwrap_or(EVENTS_ONE_BY_ONE);
    let bar = output::progress(form, Some(events), "latency");
    client.publish(&load.topic, vec![event(0, u64::MAX)]).await?;
    let mut subscription = filtered(client, load, 0).await?;
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let reader = tokio::spawn(async move {
        while let Ok(Some(item)) = subscription.next().await {
            if matches!(item, Item::Batch(_)) && arrivals.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let publisher = client.publisher(&load.topic, publisher_options(load));
    let mut micros = Vec::with_capacity(events as usize);
    let start = Instant::now();
    for number in 0..events {
        let sent = Instant::now();
        publisher.send(event(number, 0)).await?;
        let arrival = tokio::time::timeout(PATIENCE, arrived.recv()).await;
        let Ok(Some(arrival)) = arrival else { return Err(Failure::failed("an event did not arrive")) };
        micros.push((arrival - sent).as_micros() as u64);
        bar.inc(1);
        tokio::time::sleep(IDLE).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    check(&publisher.finish().await?)?;
    reader.abort();
    bar.finish_and_clear();
    micros.sort_unstable();
    let percentile = |share: f64| {
        let at = ((micros.len() as f64 * share) as usize).min(micros.len().saturating_sub(1));
        micros.get(at).copied().unwrap_or_default()
    };
    let mut result = measured(events, seconds);
    result["latency_us"] = json!({"p50": percentile(0.5), "p90": percentile(0.9), "p99": percentile(0.99),
        "p999": percentile(0.999), "max": micros.last().copied().unwrap_or_default()});
    Ok(result)
}

async fn subscribe(client: &Client, load: &Load, form: Output) -> Result<Value, Failure> {
    let bar = output::progress(form, Some(load.subscriptions), "subscribing");
    let received = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for shard in 0..load.subscriptions {
        let mut subscription = filtered(client, load, shard).await?;
        let received = received.clone();
        readers.spawn(async move {
            while let Ok(Some(item)) = subscription.next().await {
                if let Item::Batch(batch) = item {
                    received.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
            }
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Whoever measures the hub waits for this.
    eprintln!("open");
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let mut result = measured(received.load(Ordering::Relaxed), start.elapsed().as_secs_f64());
    result["subscriptions"] = load.subscriptions.into();
    Ok(result)
}

/// The CPU time of this process so far, in seconds.
#[allow(unsafe_code)]
fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is read only when the call filled it in.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return 0.0;
        }
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
