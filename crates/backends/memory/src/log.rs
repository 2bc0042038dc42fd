//! One partition: its records, and what is known of its producers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use synapse_hub_core::{
    Code, Error, Event, Position, Result, Timestamp,
    backend::{
        Append, Appended, Bounds, Commit, EventLog, Gap, GapReason, PRODUCER_WINDOW_BATCHES, ProducerBatch, ReadItem,
        ReadLimits, Record, Trim, Trimmed,
    },
};
use tokio::sync::watch;

use crate::{EVENT_BYTES_MAX, stopping};

pub(crate) struct Log {
    state: Mutex<State>,
    /// Changes with every change of the log.
    changed: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// The last offset given.
    last: u64,
    /// Offsets up to here are gone.
    low: u64,
    deleted: bool,
    /// The positions of each producer's latest batches.
    producers: HashMap<Bytes, BTreeMap<u64, Vec<Position>>>,
    /// When and where an event was stored, by source and id.
    known: HashMap<(Bytes, Bytes), (Timestamp, Position)>,
}

pub(crate) struct Handle(pub(crate) Arc<Log>);

impl Log {
    pub(crate) fn new(stop: watch::Sender<bool>) -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0), stop }
    }

    pub(crate) fn delete(&self) {
        self.state.lock().deleted = true;
        self.changed.send_modify(|change| *change += 1);
    }

    pub(crate) fn was_used(&self) -> bool {
        self.state.lock().last > 0
    }
}

impl State {
    fn append(&mut self, append: Append) -> Result<Appended> {
        if self.deleted {
            return Err(Error::new(Code::TopicNotFound, "the topic was deleted while this was on its way"));
        }
        if let Some(known) = self.recognise(append.producer.as_ref())? {
            return Ok(known);
        }
        let mut appended = Appended::default();
        let stored = self.records.last().map_or(Timestamp::default(), |record| record.stored).max(Timestamp::now());
        for (index, event) in append.events.into_iter().enumerate() {
            let known = append.dedup_window.and_then(|window| self.known_position(&event, stored, window));
            let position = known.unwrap_or_else(|| self.push(event, stored, append.dedup_window.is_some()));
            if known.is_some() {
                appended.deduplicated.push(index as u32);
            }
            appended.positions.push(position);
        }
        if let Some(producer) = append.producer {
            let batches = self.producers.entry(producer.id.into_bytes()).or_default();
            batches.insert(producer.sequence, appended.positions.clone());
            if batches.len() > PRODUCER_WINDOW_BATCHES {
                batches.pop_first();
            }
        }
        Ok(appended)
    }

    fn recognise(&self, producer: Option<&ProducerBatch>) -> Result<Option<Appended>> {
        let Some(producer) = producer else { return Ok(None) };
        let Some(batches) = self.producers.get(producer.id.as_bytes()) else { return Ok(None) };
        if let Some(positions) = batches.get(&producer.sequence) {
            return Ok(Some(Appended { positions: positions.clone(), duplicate: true, deduplicated: Vec::new() }));
        }
        let oldest = batches.keys().next().copied().unwrap_or(0);
        if batches.len() >= PRODUCER_WINDOW_BATCHES && producer.sequence < oldest {
            let what = format!(
                "batch {} of producer {} is older than the {PRODUCER_WINDOW_BATCHES} that are remembered; it may be stored already, so it was not stored again",
                producer.sequence, producer.id
            );
            return Err(Error::new(Code::ProducerSequenceTooOld, what));
        }
        Ok(None)
    }

    fn known_position(&self, event: &Event, now: Timestamp, window: Duration) -> Option<Position> {
        let (stored, position) = self.known.get(&identity(event))?;
        (*stored >= now.minus(window)).then_some(*position)
    }

    fn push(&mut self, event: Event, stored: Timestamp, remember: bool) -> Position {
        self.last += 1;
        let position = Position::offset(self.last);
        if remember {
            self.known.insert(identity(&event), (stored, position));
        }
        self.records.push(Record { position, stored, event });
        position
    }

    fn trim(&mut self, trim: Trim) -> Trimmed {
        let by_position = trim.up_to.map_or(0, |up_to| self.records.partition_point(|record| record.position <= up_to));
        let by_count = trim.events_max.map_or(0, |max| self.records.len().saturating_sub(max as usize));
        let by_bytes = trim.bytes_max.map_or(0, |max| {
            let mut left: u64 = self.records.iter().map(|record| record.event.size() as u64).sum();
            let removed = self.records.iter().take_while(|record| {
                let over = left > max;
                left -= record.event.size() as u64;
                over
            });
            removed.count()
        });
        let removed = by_position.max(by_count).max(by_bytes);
        if let Some(last) = self.records.drain(..removed).next_back() {
            self.low = last.position.major();
        }
        Trimmed { removed: Some(removed as u64) }
    }

    /// The next item after `after`; `None` when there is nothing more up to `until`.
    fn next(&self, after: Position, until: Option<Position>, limits: ReadLimits) -> Option<ReadItem> {
        if after.major() < self.low {
            return Some(ReadItem::Gap(Gap {
                after,
                resume: Position::offset(self.low),
                earliest: self.records.first().map(|record| record.position),
                lost: Some(self.low - after.major()),
                reason: GapReason::Trimmed,
            }));
        }
        let start = self.records.partition_point(|record| record.position <= after);
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let first = bytes == 0;
            bytes += record.event.size().max(1);
            (first || bytes <= limits.batch_bytes_max) && until.is_none_or(|until| record.position <= until)
        };
        let records: Vec<_> =
            self.records[start..].iter().take(limits.batch_events_max.max(1)).take_while(fits).cloned().collect();
        (!records.is_empty()).then_some(ReadItem::Batch(records))
    }
}

fn identity(event: &Event) -> (Bytes, Bytes) {
    (event.source().clone().into_bytes(), event.id().clone().into_bytes())
}

#[async_trait]
impl EventLog for Handle {
    async fn append(&self, append: Append) -> Result<Commit> {
        if *self.0.stop.borrow() {
            return Err(stopping());
        }
        if let Some(index) = append.events.iter().position(|event| event.size() > EVENT_BYTES_MAX) {
            let what = format!("the memory backend takes events of at most {EVENT_BYTES_MAX} bytes");
            return Err(Error::new(Code::EventTooLarge, what).index(index));
        }
        let outcome = self.0.state.lock().append(append);
        self.0.changed.send_modify(|change| *change += 1);
        Ok(futures::future::ready(outcome).boxed())
    }

    fn read(
        &self,
        after: Position,
        until: Option<Position>,
        limits: ReadLimits,
    ) -> BoxStream<'static, Result<ReadItem>> {
        let log = self.0.clone();
        let mut after = after;
        async_stream::stream! {
            let mut changed = log.changed.subscribe();
            let mut stop = log.stop.subscribe();
            loop {
                changed.borrow_and_update();
                if until.is_some_and(|until| after >= until) {
                    return;
                }
                let (deleted, item, last) = {
                    let state = log.state.lock();
                    (state.deleted, state.next(after, until, limits), Position::offset(state.last))
                };
                if deleted {
                    yield Err(Error::new(Code::TopicNotFound, "the topic was deleted"));
                    return;
                }
                if let Some(item) = item {
                    after = match &item {
                        ReadItem::Batch(records) => records.last().map_or(after, |record| record.position),
                        ReadItem::Gap(gap) => gap.resume,
                    };
                    yield Ok(item);
                    continue;
                }
                if until.is_some_and(|until| last >= until) {
                    return;
                }
                if *stop.borrow_and_update() {
                    yield Err(stopping());
                    return;
                }
                tokio::select! {
                    changed = changed.changed() => if changed.is_err() { return },
                    stopped = stop.changed() => if stopped.is_err() { return },
                }
            }
        }
        .boxed()
    }

    async fn bounds(&self) -> Result<Bounds> {
        let state = self.0.state.lock();
        Ok(Bounds {
            earliest: state.records.first().map(|record| record.position),
            latest: state.records.last().map(|record| record.position),
            end: Position::offset(state.last),
            events: Some(state.records.len() as u64),
            bytes: Some(state.records.iter().map(|record| record.event.size() as u64).sum()),
        })
    }

    async fn find(&self, time: Timestamp) -> Result<Position> {
        let state = self.0.state.lock();
        let earlier = state.records.partition_point(|record| record.stored < time);
        Ok(match state.records.get(earlier) {
            Some(record) => Position::offset(record.position.major() - 1),
            None => Position::offset(state.last),
        })
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed> {
        let trimmed = self.0.state.lock().trim(trim);
        self.0.changed.send_modify(|change| *change += 1);
        Ok(trimmed)
    }
}
