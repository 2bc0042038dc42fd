//! Figure 3: many subscriptions of one topic cost little more than one.

use std::cell::RefCell;

use anyhow::Result;

use super::{
    Case, Session,
    load::{self, Samples},
    redis,
    report::{Figure, Peer, Section, Series, Target, Unit},
    servers::Storage,
};

const TOPIC: &str = "bench";
const SUBSCRIPTIONS: u64 = 100;
/// A second read of the events would double what Redis sends; a little more is answers to writes and empty reads.
const READ_ONCE: f64 = 1.2;

/// What the runs with one number of subscriptions came to.
#[derive(Default)]
struct Side {
    samples: Samples,
    sent_bytes: Series,
}

pub(super) fn run(session: &Session) -> Result<Section> {
    let (one, many) = <(RefCell<Side>, RefCell<Side>)>::default();
    let events = session.scaled(500_000);
    session.rounds(vec![
        Case::new("fan-out, 1 subscription", || side(session, events, 1, &one)),
        Case::new(format!("fan-out, {SUBSCRIPTIONS} subscriptions"), || side(session, events, SUBSCRIPTIONS, &many)),
    ])?;
    let (one, many) = (one.into_inner(), many.into_inner());
    let figure = |name: &str, unit, measured, peer, target| Figure {
        name: name.into(),
        unit,
        measured,
        peer: Some(Peer { name: "1 subscription".into(), measured: peer }),
        target,
    };
    Ok(Section {
        title: "Fan-out",
        method: format!(
            "`synapse bench e2e` on Redis, layout `flat`, {events} events: {SUBSCRIPTIONS} subscriptions, each with a \
             filter that matches 1% of them, against one subscription with a filter that matches all. The hub's CPU is all \
             of it, publishing included. What Redis sends an event shows how often the hub reads it."
        ),
        figures: vec![
            figure(
                &format!("hub CPU, {SUBSCRIPTIONS} subscriptions of 1%"),
                Unit::MicrosPerEvent,
                many.samples.hub_us(),
                one.samples.hub_us(),
                Target::AtMostTimesPeer(3.0),
            ),
            figure(
                &format!("sent by Redis, {SUBSCRIPTIONS} subscriptions of 1%"),
                Unit::BytesPerEvent,
                many.sent_bytes,
                one.sent_bytes,
                Target::AtMostTimesPeer(READ_ONCE),
            ),
            figure(
                &format!("end to end, {SUBSCRIPTIONS} subscriptions of 1%"),
                Unit::EventsPerSecond,
                many.samples.rates(),
                one.samples.rates(),
                Target::Information,
            ),
        ],
        costs: vec![one.samples.cost("1 subscription"), many.samples.cost(format!("{SUBSCRIPTIONS} subscriptions"))],
    })
}

fn side(session: &Session, events: u64, subscriptions: u64, side: &RefCell<Side>) -> Result<String> {
    let redis = session.redis()?;
    let hub = session.hub(Storage::Redis(&redis))?;
    let (count, width) = (events.to_string(), subscriptions.to_string());
    let e2e = |count| session.synapse(&hub, &["e2e", "--topic", TOPIC, "--events", count, "--subscriptions", &width]);
    load::measure(&mut e2e("20000"), None, None)?;
    let mut connection = redis::Connection::open(redis.port)?;
    let before = redis::info(&mut connection, "stats", "total_net_output_bytes")?;
    let sample = load::measure(&mut e2e(&count), Some(&hub), Some(&redis))?;
    let sent = redis::info(&mut connection, "stats", "total_net_output_bytes")? - before;
    let mut side = side.borrow_mut();
    side.sent_bytes.0.push(sent as f64 / events as f64);
    Ok(side.samples.push(sample))
}
