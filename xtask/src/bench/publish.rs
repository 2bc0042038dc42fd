//! Figures 1 and 2: how fast events are stored, and how fast they are stored and delivered.

use std::cell::RefCell;

use anyhow::{Context, Result};

use super::{
    Case, Session,
    load::{self, Samples},
    redis::{self, Reply},
    report::{Figure, Peer, Section, Target, Unit},
    servers::{Hub, Redis, Storage},
};

const TOPIC: &str = "bench";
/// Enough to open connections and topics and to grow buffers, before the measured part.
const WARM_UP_EVENTS: &str = "20000";

/// Figure 1: the pipelined publisher alone.
pub(super) fn publish(session: &Session) -> Result<Section> {
    let (embedded, flat, peer) = <(RefCell<Samples>, RefCell<Samples>, RefCell<Samples>)>::default();
    let (events, fewer) = (session.scaled(2_000_000), session.scaled(1_000_000));
    session.rounds(vec![
        Case::new("publish, embedded", || {
            let hub = session.hub(Storage::Embedded)?;
            let sample = run(session, &hub, None, "publish", events)?;
            Ok(embedded.borrow_mut().push(sample))
        }),
        Case::new("publish, Redis flat", || {
            let redis = session.redis()?;
            let hub = session.hub(Storage::Redis(&redis))?;
            let sample = run(session, &hub, Some(&redis), "publish", fewer)?;
            Ok(flat.borrow_mut().push(sample))
        }),
        Case::new("publish, redis-benchmark", || {
            let redis = session.redis()?;
            let words = stored_as(session, &redis)?;
            Ok(peer.borrow_mut().push(load::redis_benchmark(&redis, fewer, &words)?))
        }),
    ])?;
    let (embedded, flat, peer) = (embedded.into_inner(), flat.into_inner(), peer.into_inner());
    let figures = vec![
        Figure {
            name: "publish on `embedded`, durability `stored`".into(),
            unit: Unit::EventsPerSecond,
            measured: embedded.rates(),
            peer: None,
            target: Target::AtLeast(300_000.0),
        },
        Figure {
            name: "publish on Redis, layout `flat`".into(),
            unit: Unit::EventsPerSecond,
            measured: flat.rates(),
            peer: Some(Peer { name: "`redis-benchmark -P 64`".into(), measured: peer.rates() }),
            target: Target::AtLeastTimesPeer(0.6),
        },
    ];
    Ok(Section {
        title: "Publish",
        method: format!(
            "`synapse bench publish`: one gRPC stream, pipelined batches of 300-byte events of ten fields, {events} events \
             on `embedded`, {fewer} on Redis, each run on an empty log. The peer sends the very `XADD` that the hub \
             stores such an event as, with nobody else on the machine."
        ),
        figures,
        costs: vec![
            embedded.cost("publish on `embedded`"),
            flat.cost("publish on Redis"),
            peer.cost("`redis-benchmark`"),
        ],
    })
}

/// Figure 2: published, stored, and delivered to one filtered subscriber.
pub(super) fn end_to_end(session: &Session) -> Result<Section> {
    let (flat, embedded) = <(RefCell<Samples>, RefCell<Samples>)>::default();
    let events = session.scaled(1_000_000);
    session.rounds(vec![
        Case::new("end to end, Redis flat", || {
            let redis = session.redis()?;
            let hub = session.hub(Storage::Redis(&redis))?;
            let sample = run(session, &hub, Some(&redis), "e2e", events)?;
            Ok(flat.borrow_mut().push(sample))
        }),
        Case::new("end to end, embedded", || {
            let hub = session.hub(Storage::Embedded)?;
            let sample = run(session, &hub, None, "e2e", events)?;
            Ok(embedded.borrow_mut().push(sample))
        }),
    ])?;
    let (flat, embedded) = (flat.into_inner(), embedded.into_inner());
    let figure = |name: &str, samples: &Samples, target| Figure {
        name: name.into(),
        unit: Unit::EventsPerSecond,
        measured: samples.rates(),
        peer: None,
        target,
    };
    Ok(Section {
        title: "End to end",
        method: format!(
            "`synapse bench e2e`: {events} events published as above while one subscription with a filter receives them \
             all, from the first publish to the last delivery; publisher and subscriber are one process."
        ),
        figures: vec![
            figure("publish to delivery on Redis, layout `flat`", &flat, Target::AtLeast(100_000.0)),
            figure("publish to delivery on `embedded`", &embedded, Target::Information),
        ],
        costs: vec![flat.cost("end to end on Redis"), embedded.cost("end to end on `embedded`")],
    })
}

/// A load of `synapse bench`, after a short one that warms up.
fn run(session: &Session, hub: &Hub, redis: Option<&Redis>, what: &str, events: u64) -> Result<load::Sample> {
    let arguments = |events| [what, "--topic", TOPIC, "--events", events];
    load::measure(&mut session.synapse(hub, &arguments(WARM_UP_EVENTS)), None, None)?;
    load::measure(&mut session.synapse(hub, &arguments(&events.to_string())), Some(hub), redis)
}

/// The `XADD` that the hub stores one event of `synapse bench` as. Leaves Redis empty and without a hub.
fn stored_as(session: &Session, redis: &Redis) -> Result<Vec<Vec<u8>>> {
    let hub = session.hub(Storage::Redis(redis))?;
    load::measure(&mut session.synapse(&hub, &["publish", "--topic", TOPIC, "--events", "10"]), None, None)?;
    drop(hub);
    let mut connection = redis::Connection::open(redis.port)?;
    let entries = connection.call(&["XRANGE", TOPIC, "-", "+", "COUNT", "1"])?.list()?;
    let entry = entries.into_iter().next().context("the hub stored no entry")?.list()?;
    let fields = entry.into_iter().nth(1).context("the entry has no fields")?.list()?;
    let fields = fields.into_iter().map(Reply::text).collect::<Result<Vec<_>>>()?;
    connection.call(&["FLUSHALL"])?;
    let command = ["XADD", TOPIC, "*"].map(|word| word.as_bytes().to_vec());
    Ok(command.into_iter().chain(fields).collect())
}
