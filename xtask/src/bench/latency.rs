//! Figure 4: from the publish call to the delivery, with nothing else going on.

use std::{
    cell::RefCell,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    Case, Session,
    load::{self, Samples},
    redis::Connection,
    report::{Figure, Peer, Section, Series, Target, Unit},
    servers::{Hub, Redis, Storage},
};

const TOPIC: &str = "bench";
/// Long enough for both sides to fall asleep between events.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) fn run(session: &Session) -> Result<Section> {
    let (flat, embedded, raw) = <(RefCell<Samples>, RefCell<Samples>, RefCell<Raw>)>::default();
    let events = session.scaled(2_000);
    session.rounds(vec![
        Case::new("latency, raw XADD to XREAD", || {
            let redis = session.redis()?;
            raw.borrow_mut().push(&mut pairs(&redis, events)?)
        }),
        Case::new("latency, Redis flat", || {
            let redis = session.redis()?;
            let hub = session.hub(Storage::Redis(&redis))?;
            synapse(session, &hub, events, &flat)
        }),
        Case::new("latency, embedded", || synapse(session, &session.hub(Storage::Embedded)?, events, &embedded)),
    ])?;
    let (flat, embedded, raw) = (flat.into_inner(), embedded.into_inner(), raw.into_inner());
    let figure = |name: &str, samples: &Samples, pointer: &str, peer: &Series, target| Figure {
        name: name.into(),
        unit: Unit::Micros,
        measured: samples.reported(pointer),
        peer: Some(Peer { name: "raw pair".into(), measured: peer.clone() }),
        target,
    };
    let (p50, p99) = ("/latency_us/p50", "/latency_us/p99");
    Ok(Section {
        title: "Latency",
        method: format!(
            "{events} events, one at a time, about {} ms apart, on loopback: from the call of publish to the delivery at a \
             subscriber over gRPC. The raw pair is an `XADD` on one socket until a blocked `XREAD` on another has its \
             reply, without any library. Where the time goes: threads that sleep have to be woken, the raw pair's two times, \
             ours six times (client, hub, the hub's Redis thread, Redis, that thread again, hub, client), about 40 µs each \
             on this machine; and the script that makes retries safe takes an idle Redis about 55 µs longer than a plain \
             `XADD`.",
            PAUSE.as_millis()
        ),
        figures: vec![
            figure("p50 on Redis, layout `flat`", &flat, p50, &raw.p50, Target::AtMostTimesPeer(4.0)),
            figure("p99 on Redis, layout `flat`", &flat, p99, &raw.p99, Target::AtMostPeerPlus(1000.0)),
            figure("p50 on `embedded`", &embedded, p50, &raw.p50, Target::Information),
            figure("p99 on `embedded`", &embedded, p99, &raw.p99, Target::Information),
        ],
        costs: Vec::new(),
    })
}

fn synapse(session: &Session, hub: &Hub, events: u64, samples: &RefCell<Samples>) -> Result<String> {
    let arguments = ["latency", "--topic", TOPIC, "--events", &events.to_string()];
    let sample = load::measure(&mut session.synapse(hub, &arguments), None, None)?;
    let shown = sample.report["latency_us"].to_string();
    samples.borrow_mut().push(sample);
    Ok(shown)
}

/// Percentiles of the raw pair, a value a run, in µs.
#[derive(Default)]
struct Raw {
    p50: Series,
    p99: Series,
}

impl Raw {
    fn push(&mut self, latencies: &mut [Duration]) -> Result<String> {
        latencies.sort();
        let at = |share: f64| {
            let index = (latencies.len() as f64 * share) as usize;
            latencies.get(index).map(|latency| latency.as_secs_f64() * 1e6).context("no latency was measured")
        };
        let (p50, p99) = (at(0.50)?, at(0.99)?);
        self.p50.0.push(p50);
        self.p99.0.push(p99);
        Ok(format!("p50 {p50:.0} µs, p99 {p99:.0} µs"))
    }
}

/// How long each of so many events takes from before its `XADD` to the reply of a blocked `XREAD`.
fn pairs(redis: &Redis, events: u64) -> Result<Vec<Duration>> {
    let data = "x".repeat(240);
    let add = ["XADD", TOPIC, "*", "event", "bench", "source", "xtask", "data", &data];
    let mut writer = Connection::open(redis.port)?;
    let mut reader = Connection::open(redis.port)?;
    let (arrived, arrivals) = mpsc::channel();
    let reading = std::thread::spawn(move || -> Result<()> {
        let mut last = "0-0".to_owned();
        for _ in 0..events {
            let reply = reader.call(&["XREAD", "BLOCK", "0", "STREAMS", TOPIC, &last])?;
            let now = Instant::now();
            last = reply.newest_id()?;
            arrived.send(now)?;
        }
        Ok(())
    });
    let mut latencies = Vec::new();
    for _ in 0..events {
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        writer.call(&add)?;
        latencies.push(arrivals.recv().context("the reader ended early")?.duration_since(start));
    }
    reading.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok(latencies)
}
