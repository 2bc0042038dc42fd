//! Publishing: decode, check, complete, append.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures::{FutureExt as _, future::BoxFuture};
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Durability, Error, Event, Position, Result, Timestamp, TopicName,
    backend::{Append, Appended, ProducerBatch},
    batch, flat, json,
};
use uuid::Uuid;

use crate::{
    Limits,
    catalog::Topic,
    hub::Inner,
    metrics::{Timer, TypeCounts},
};

/// The longest id of a producer, in bytes.
const PRODUCER_ID_BYTES_MAX: usize = 64;

/// A request to publish.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The topic.
    pub topic: TopicName,
    /// The events.
    pub payload: Payload,
    /// What the reply must promise; `None` means what the topic says.
    pub durability: Option<Durability>,
    /// Who publishes, for the recognition of retries.
    pub producer: Option<ProducerBatch>,
    /// Store what is acceptable, rather than refusing the batch whole.
    pub partial: bool,
    /// The trace context for events that have none of their own.
    pub traceparent: Option<ByteString>,
}

impl Publication {
    /// A publication of events with everything else left to the topic.
    pub fn new(topic: TopicName, payload: Payload) -> Self {
        Self { topic, payload, durability: None, producer: None, partial: false, traceparent: None }
    }
}

/// Events, in one of the forms in which they come.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Events.
    Events(Vec<Event>),
    /// Events that were read one by one, with why some could not be.
    Read(Vec<Result<Event>>),
    /// An encoded `EventBatch`.
    Batch(Bytes),
    /// Flat JSON objects.
    Flat(Vec<Bytes>),
}

/// Resolves when the batch is stored as durably as was asked for. It may be dropped: the batch is stored all the same.
pub type Pending = BoxFuture<'static, Result<Published>>;

/// What became of a publication.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Where each event stands; `None` for those that were not stored.
    pub positions: Vec<Option<Placed>>,
    /// The id of each event; empty for those that were not stored, and for those of a recognised retry that came without
    /// one: the hub gave them theirs when they were stored.
    pub ids: Vec<ByteString>,
    /// Whether the hub gives ids to any of the events.
    pub ids_given: bool,
    /// The batch is a retry that was recognised by its producer's number.
    pub duplicate: bool,
    /// Events that the deduplication window recognised, by index.
    pub deduplicated: Vec<u32>,
    /// What was refused. Without `partial`, any refusal means that nothing was stored.
    pub refused: Vec<Refusal>,
    /// What the storage gives, in words.
    pub guarantee: Arc<str>,
    /// The level that was given.
    pub level: Durability,
}

/// Where an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The partition.
    pub partition: u32,
    /// The position within it.
    pub position: Position,
}

/// An event that was not stored, and why.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Its index in the request.
    pub index: usize,
    /// Why.
    pub error: Error,
}

/// Spreads events without a key over the partitions.
#[derive(Debug, Default)]
pub(crate) struct Spread(AtomicU32);

pub(crate) async fn publish(hub: &Arc<Inner>, publication: Publication) -> Result<Pending> {
    let topic_name = publication.topic.clone();
    let outcome = accept(hub, publication).await.map_err(|error| error.topic(topic_name.as_str()));
    if let Err(error) = &outcome {
        hub.metrics.publish_failed(error.code());
    }
    outcome
}

async fn accept(hub: &Arc<Inner>, publication: Publication) -> Result<Pending> {
    if hub.stop.is_cancelled() {
        return Err(Error::new(Code::ShuttingDown, "the hub is stopping; publish through another or try again soon"));
    }
    check_producer(publication.producer.as_ref())?;
    let checked = check(hub, publication.payload, publication.traceparent.as_ref())?;
    if checked.events.is_empty() || (!checked.refused.is_empty() && !publication.partial) {
        checked.refused.iter().for_each(|refusal| hub.metrics.refused(refusal.error.code()));
        return Ok(futures::future::ready(Ok(checked.nothing_stored())).boxed());
    }
    let topic = hub.catalog.for_publish(&publication.topic).await?;
    checked.refused.iter().for_each(|refusal| hub.metrics.refused(refusal.error.code()));
    let durability = publication.durability.unwrap_or(topic.settings.durability);
    store(hub, topic, checked, durability, publication.producer).await
}

fn check_producer(producer: Option<&ProducerBatch>) -> Result<()> {
    let Some(producer) = producer else { return Ok(()) };
    if producer.id.is_empty() || producer.id.len() > PRODUCER_ID_BYTES_MAX {
        let what = format!("a producer id has 1 to {PRODUCER_ID_BYTES_MAX} bytes, this one has {}", producer.id.len());
        return Err(Error::new(Code::InvalidArgument, what).field("producer_id"));
    }
    if producer.sequence == 0 {
        return Err(Error::new(Code::InvalidArgument, "producer sequences start at 1").field("producer_sequence"));
    }
    Ok(())
}

/// A decoded batch: what may be stored, and what may not.
struct Checked {
    events: Vec<Event>,
    /// The index in the request of each event; empty when they are the same.
    indices: Vec<u32>,
    refused: Vec<Refusal>,
    total: usize,
    counts: TypeCounts,
    /// The index in the request of each event that came without an id.
    ids_given: Vec<u32>,
}

impl Checked {
    fn nothing_stored(self) -> Published {
        Published {
            positions: vec![None; self.total],
            ids: vec![ByteString::new(); self.total],
            refused: self.refused,
            ..Published::default()
        }
    }

    fn index(&self, at: usize) -> usize {
        self.indices.get(at).map_or(at, |&index| index as usize)
    }
}

fn check(hub: &Inner, payload: Payload, traceparent: Option<&ByteString>) -> Result<Checked> {
    let limits = &hub.options.limits;
    let too_many = |count: usize| {
        let what = format!(
            "{count} events in one request, at most {} are allowed (`limits.batch_events`); send several",
            limits.batch_events
        );
        Err(Error::new(Code::BatchTooLarge, what))
    };
    // The data of flat events was read as JSON already.
    let read_as_json = matches!(payload, Payload::Flat(_));
    let decoded: Vec<Result<Event>> = match payload {
        Payload::Events(events) => events.into_iter().map(Ok).collect(),
        Payload::Read(events) => events,
        Payload::Batch(bytes) => batch::decode(bytes)?.into_iter().map(Ok).collect(),
        Payload::Flat(texts) if texts.len() > limits.batch_events => return too_many(texts.len()),
        Payload::Flat(texts) => {
            let mut buffer = BytesMut::with_capacity(texts.iter().map(Bytes::len).sum());
            texts.iter().map(|text| decode_flat(text, limits, &mut buffer)).collect()
        }
    };
    let total = decoded.len();
    if total == 0 {
        return Err(Error::new(Code::EmptyBatch, "there is no event in the request; send at least one"));
    }
    if total > limits.batch_events {
        return too_many(total);
    }
    let mut checked = Checked {
        events: Vec::with_capacity(total),
        indices: Vec::new(),
        refused: Vec::new(),
        total,
        counts: TypeCounts::default(),
        ids_given: Vec::new(),
    };
    let now = Timestamp::now();
    for (index, event) in decoded.into_iter().enumerate() {
        let completed = event.and_then(|mut event| {
            check_event(&event, limits)?;
            if !read_as_json {
                check_data(&event, limits)?;
            }
            if event.id().is_empty() {
                checked.ids_given.push(index as u32);
            }
            complete(&mut event, now, &hub.options.default_source, traceparent);
            Ok(event)
        });
        match completed {
            Ok(event) => {
                if !checked.refused.is_empty() {
                    checked.indices.push(index as u32);
                }
                checked.counts.add(&event);
                checked.events.push(event);
            }
            Err(error) => {
                if checked.refused.is_empty() {
                    checked.indices = (0..index as u32).collect();
                }
                checked.refused.push(Refusal { index, error: error.index(index) });
            }
        }
    }
    Ok(checked)
}

fn decode_flat(text: &Bytes, limits: &Limits, buffer: &mut BytesMut) -> Result<Event> {
    check_size(text.len(), limits)?;
    flat::decode_into(text, limits.json_depth, buffer)
}

fn check_size(bytes: usize, limits: &Limits) -> Result<()> {
    if bytes > limits.event_bytes {
        return Err(Error::new(
            Code::EventTooLarge,
            format!(
                "it has {bytes} bytes, at most {} are allowed (`limits.event_bytes`); keep large content elsewhere and send a reference",
                limits.event_bytes
            ),
        ));
    }
    Ok(())
}

fn check_event(event: &Event, limits: &Limits) -> Result<()> {
    check_size(event.size(), limits)?;
    if event.kind().is_empty() {
        return Err(Error::new(
            Code::InvalidEvent,
            "it has no type; give it an `event` field (CloudEvents: `type`) such as \"model-ready\"",
        )
        .field("event"));
    }
    let attributes = [
        ("id", event.id()),
        ("source", event.source()),
        ("event", event.kind()),
        ("correlation_id", event.correlation_id()),
    ];
    for (field, text) in attributes {
        if text.len() > limits.attribute_bytes {
            let what = format!(
                "it has {} bytes, at most {} are allowed (`limits.attribute_bytes`); put long texts into the data",
                text.len(),
                limits.attribute_bytes
            );
            return Err(Error::new(Code::InvalidEvent, what).field(field));
        }
    }
    let names = event.more().extensions.iter().map(|(name, _)| name);
    for name in names {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            let what =
                "extension attributes have names of lower-case ASCII letters and digits (CloudEvents 1.0, section 3.1)";
            return Err(Error::new(Code::InvalidEvent, what).field(name.to_string()));
        }
    }
    Ok(())
}

fn check_data(event: &Event, limits: &Limits) -> Result<()> {
    if event.is_json() && !event.data().is_empty() {
        json::check(event.data(), limits.json_depth).map_err(|error| error.field("data"))?;
    }
    Ok(())
}

fn complete(event: &mut Event, now: Timestamp, source: &ByteString, traceparent: Option<&ByteString>) {
    if event.id().is_empty() {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let id: &str = Uuid::now_v7().hyphenated().encode_lower(&mut text);
        event.set_id(id);
    }
    if event.time() == Timestamp::default() {
        event.set_time(now);
    }
    if event.source().is_empty() {
        event.set_source(source.clone());
    }
    if let Some(traceparent) = traceparent
        && event.more().traceparent.is_empty()
    {
        event.more_mut().traceparent = traceparent.clone();
    }
}

/// The events of a batch that go to one partition, with their place in the request.
struct Part {
    partition: u32,
    events: Vec<Event>,
    indices: Vec<usize>,
}

async fn store(
    hub: &Arc<Inner>,
    topic: Arc<Topic>,
    mut checked: Checked,
    durability: Durability,
    producer: Option<ProducerBatch>,
) -> Result<Pending> {
    let timer = Timer::start();
    let guarantee = hub.guarantee(durability).await;
    let mut published = Published {
        positions: vec![None; checked.total],
        ids: vec![ByteString::new(); checked.total],
        ids_given: !checked.ids_given.is_empty(),
        guarantee: guarantee.0,
        level: guarantee.1,
        ..Published::default()
    };
    for (at, event) in checked.events.iter().enumerate() {
        published.ids[checked.index(at)] = event.id().clone();
    }
    let mut commits = Vec::new();
    for part in split(hub, &topic, &mut checked, producer.as_ref()) {
        let log = hub.catalog.partition(&topic, part.partition).await?.log;
        let append = Append {
            events: part.events,
            durability,
            producer: producer.clone(),
            dedup_window: topic.settings.dedup_window,
        };
        commits.push((part.partition, part.indices, log.append(append).await?));
    }
    published.refused = std::mem::take(&mut checked.refused);
    let (hub, counts, ids_given) = (hub.clone(), checked.counts, checked.ids_given);
    Ok(async move {
        let mut duplicates = 0;
        for (partition, indices, commit) in commits {
            let appended = commit.await.map_err(|error| {
                hub.metrics.publish_failed(error.code());
                error.topic(topic.name.as_str())
            })?;
            duplicates += place(&mut published, partition, &indices, appended, &ids_given);
        }
        timer.observe(&hub.metrics.append_seconds);
        topic.metrics.count_published(&counts, duplicates);
        Ok(published)
    }
    .boxed())
}

/// Notes where the events of a part stand; returns how many were recognised as stored before.
fn place(published: &mut Published, partition: u32, indices: &[usize], appended: Appended, ids_given: &[u32]) -> u64 {
    let request_index = |at: usize| indices.get(at).copied().unwrap_or(at);
    for (at, position) in appended.positions.iter().enumerate() {
        if let Some(place) = published.positions.get_mut(request_index(at)) {
            *place = Some(Placed { partition, position: *position });
        }
        if appended.duplicate && ids_given.binary_search(&(request_index(at) as u32)).is_ok() {
            // The event that is stored has another.
            published.ids[request_index(at)] = ByteString::new();
        }
    }
    published.duplicate |= appended.duplicate;
    let before = published.deduplicated.len();
    published.deduplicated.extend(appended.deduplicated.iter().map(|&at| request_index(at as usize) as u32));
    if appended.duplicate { appended.positions.len() as u64 } else { (published.deduplicated.len() - before) as u64 }
}

/// Splits a batch over the partitions: by key where there is one, else the batch stays together.
fn split(hub: &Inner, topic: &Topic, checked: &mut Checked, producer: Option<&ProducerBatch>) -> Vec<Part> {
    let count = topic.settings.partitions;
    let events = std::mem::take(&mut checked.events);
    if count == 1 {
        let indices = checked.indices.iter().map(|&index| index as usize).collect();
        return vec![Part { partition: 0, events, indices }];
    }
    // A retry must find its first partition again.
    let keyless = match producer {
        Some(producer) => stable_hash(producer.id.as_bytes()).wrapping_add(producer.sequence as u32) % count,
        None => hub.spread.0.fetch_add(1, Ordering::Relaxed) % count,
    };
    let mut parts: FxHashMap<u32, Part> = FxHashMap::default();
    for (at, event) in events.into_iter().enumerate() {
        let key = &event.more().partition_key;
        let id_is_given = || checked.ids_given.binary_search(&(checked.index(at) as u32)).is_ok();
        let partition = if !key.is_empty() {
            stable_hash(key.as_bytes()) % count
        } else if topic.settings.dedup_window.is_some() && !id_is_given() {
            // A partition recognises its own events: those with one identity have to meet in one.
            stable_hash(event.id().as_bytes()).rotate_left(16).wrapping_add(stable_hash(event.source().as_bytes()))
                % count
        } else {
            keyless
        };
        let part =
            parts.entry(partition).or_insert_with(|| Part { partition, events: Vec::new(), indices: Vec::new() });
        part.indices.push(checked.index(at));
        part.events.push(event);
    }
    parts.into_values().collect()
}

/// FNV-1a: the same in every version and on every machine, because a key must keep its partition.
fn stable_hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
