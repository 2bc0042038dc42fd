//! One partition: its records in a queue, under a lock.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use bytestring::ByteString;
use futures::{FutureExt as _, StreamExt as _, future, stream::BoxStream};
use parking_lot::Mutex;
use synapse_hub_core::{
    Code, Error, Event, Position, Result, Timestamp,
    backend::{
        Append, Appended, Bounds, Commit, EventLog, Gap, GapReason, PRODUCER_IDLE, PRODUCER_WINDOW_BATCHES,
        ProducerBatch, ReadItem, ReadLimits, Record, Trim, Trimmed,
    },
};
use tokio::sync::watch;

use crate::{EVENT_BYTES_MAX, stopping};

/// A partition in memory.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    state: Arc<Mutex<State>>,
    /// Changes whenever a waiting reader has something to look at.
    changes: watch::Sender<()>,
    stop: watch::Sender<bool>,
}

/// What a partition holds. Its records have the offsets from `gone + 1` on, without holes.
#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    /// How many events were removed: the last offset that is gone.
    gone: u64,
    /// When the last event that is gone was stored.
    gone_stored: Timestamp,
    bytes: u64,
    producers: HashMap<ByteString, Producer>,
    /// Where the event of this source and id was stored, and when.
    identities: HashMap<Identity, (Position, Timestamp)>,
    /// The same identities in the order in which they were stored.
    identities_by_age: VecDeque<(Timestamp, Identity)>,
    deleted: bool,
}

/// The source and id of an event.
type Identity = (ByteString, ByteString);

/// A producer's latest batches, by their numbers.
#[derive(Debug)]
struct Producer {
    batches: BTreeMap<u64, Vec<Position>>,
    used: Instant,
}

/// What a reader does next.
enum Step {
    Yield(ReadItem, Position),
    Wait,
}

impl MemoryLog {
    pub(crate) fn new(stop: watch::Sender<bool>) -> Self {
        Self { state: Arc::default(), changes: watch::Sender::new(()), stop }
    }

    /// Ends its readers and writers.
    pub(crate) fn delete(&self) {
        let mut state = self.state.lock();
        // Its end stays what it was for those who still hold it.
        *state = State { deleted: true, gone: state.end(), ..State::default() };
        drop(state);
        self.changes.send_replace(());
    }

    /// Whether a read of it is under way.
    pub(crate) fn is_read(&self) -> bool {
        Arc::strong_count(&self.state) > 1
    }

    /// Whether it holds or held events.
    pub(crate) fn was_used(&self) -> bool {
        self.state.lock().end() > 0
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, batch: Append) -> Result<Commit> {
        if *self.stop.borrow() {
            return Err(stopping());
        }
        let appended = self.state.lock().append(batch);
        self.changes.send_replace(());
        // What is stored is stored at once: nothing is ever under way.
        Ok(future::ready(appended).boxed())
    }

    fn read(
        &self,
        mut after: Position,
        until: Option<Position>,
        limits: ReadLimits,
    ) -> BoxStream<'static, Result<ReadItem>> {
        let (mut changes, mut stop) = (self.changes.subscribe(), self.stop.subscribe());
        let state = self.state.clone();
        async_stream::stream! {
            // Between two offsets is no event, whatever else a position may say.
            while until.is_none_or(|until| after.major() < until.major()) {
                if *stop.borrow_and_update() {
                    yield Err(stopping());
                    return;
                }
                changes.borrow_and_update();
                let step = state.lock().read(after, until, limits);
                match step {
                    Ok(Step::Yield(item, last)) => {
                        after = last;
                        yield Ok(item);
                    }
                    Ok(Step::Wait) => tokio::select! {
                        _ = changes.changed() => {}
                        _ = stop.changed() => {}
                    },
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                }
            }
        }
        .boxed()
    }

    async fn bounds(&self) -> Result<Bounds> {
        let state = self.state.lock();
        Ok(Bounds {
            earliest: state.records.front().map(|record| record.position),
            latest: state.records.back().map(|record| record.position),
            end: Position::offset(state.end()),
            events: Some(state.records.len() as u64),
            bytes: Some(state.bytes),
        })
    }

    async fn find(&self, time: Timestamp) -> Result<Position> {
        let state = self.state.lock();
        let earlier = state.records.partition_point(|record| record.stored < time) as u64;
        let all_gone_is_earlier = state.gone > 0 && state.gone_stored < time;
        Ok(if earlier > 0 || all_gone_is_earlier { Position::offset(state.gone + earlier) } else { Position::START })
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed> {
        let removed = self.state.lock().trim(trim);
        self.changes.send_replace(());
        Ok(Trimmed { removed: Some(removed) })
    }
}

impl State {
    /// The last offset that was given.
    fn end(&self) -> u64 {
        self.gone + self.records.len() as u64
    }

    fn append(&mut self, batch: Append) -> Result<Appended> {
        if self.deleted {
            return Err(Error::new(Code::TopicNotFound, "the topic was deleted while this was on its way"));
        }
        if let Some(index) = batch.events.iter().position(|event| event.size() > EVENT_BYTES_MAX) {
            let what = format!("an event in memory has at most {EVENT_BYTES_MAX} bytes");
            return Err(Error::new(Code::EventTooLarge, what).index(index));
        }
        if let Some(producer) = &batch.producer
            && let Some(positions) = self.recognise(producer)?
        {
            return Ok(Appended { positions, duplicate: true, deduplicated: Vec::new() });
        }
        let now = Timestamp::now().max(self.records.back().map_or(self.gone_stored, |record| record.stored));
        if let Some(window) = batch.dedup_window {
            self.forget_identities(now.minus(window));
        }
        let mut appended = Appended::default();
        for (index, event) in batch.events.into_iter().enumerate() {
            let identity = batch.dedup_window.map(|_| (event.source().clone(), event.id().clone()));
            let known = identity.as_ref().and_then(|identity| self.identities.get(identity)).map(|known| known.0);
            appended.deduplicated.extend(known.map(|_| index as u32));
            appended.positions.push(known.unwrap_or_else(|| self.store(event, now, identity)));
        }
        if let Some(producer) = batch.producer {
            self.remember(producer, appended.positions.clone());
        }
        Ok(appended)
    }

    /// The positions of this very batch, when it was stored before.
    fn recognise(&self, batch: &ProducerBatch) -> Result<Option<Vec<Position>>> {
        let Some(producer) = self.producers.get(&batch.id) else { return Ok(None) };
        if let Some(positions) = producer.batches.get(&batch.sequence) {
            return Ok(Some(positions.clone()));
        }
        let smallest = producer.batches.keys().next().copied().unwrap_or_default();
        if producer.batches.len() == PRODUCER_WINDOW_BATCHES && batch.sequence < smallest {
            let what = format!(
                "batch {} of producer {} is older than the {PRODUCER_WINDOW_BATCHES} that are remembered; it may be stored already, so it was not stored again",
                batch.sequence, batch.id
            );
            return Err(Error::new(Code::ProducerSequenceTooOld, what));
        }
        Ok(None)
    }

    fn remember(&mut self, batch: ProducerBatch, positions: Vec<Position>) {
        if !self.producers.contains_key(&batch.id) {
            self.producers.retain(|_, producer| producer.used.elapsed() < PRODUCER_IDLE);
        }
        let used = Instant::now();
        let producer = self.producers.entry(batch.id).or_insert_with(|| Producer { batches: BTreeMap::new(), used });
        producer.used = used;
        producer.batches.insert(batch.sequence, positions);
        if producer.batches.len() > PRODUCER_WINDOW_BATCHES {
            producer.batches.pop_first();
        }
    }

    /// Forgets whatever was stored before `oldest`.
    fn forget_identities(&mut self, oldest: Timestamp) {
        while let Some((_, identity)) = self.identities_by_age.pop_front_if(|(stored, _)| *stored < oldest) {
            // It may have been stored again since, by somebody with a shorter window.
            if self.identities.get(&identity).is_some_and(|(_, stored)| *stored < oldest) {
                self.identities.remove(&identity);
            }
        }
    }

    fn store(&mut self, event: Event, stored: Timestamp, identity: Option<Identity>) -> Position {
        let position = Position::offset(self.end() + 1);
        if let Some(identity) = identity {
            self.identities.insert(identity.clone(), (position, stored));
            self.identities_by_age.push_back((stored, identity));
        }
        self.bytes += event.size() as u64;
        self.records.push_back(Record { position, stored, event });
        position
    }

    fn read(&self, after: Position, until: Option<Position>, limits: ReadLimits) -> Result<Step> {
        if self.deleted {
            return Err(Error::new(Code::TopicNotFound, "the topic was deleted"));
        }
        let after_offset = after.major();
        if after_offset < self.gone {
            let resume = Position::offset(self.gone);
            let gap = Gap {
                after,
                resume,
                earliest: self.records.front().map(|record| record.position),
                lost: Some(self.gone - after_offset),
                reason: GapReason::Trimmed,
            };
            return Ok(Step::Yield(ReadItem::Gap(gap), resume));
        }
        let mut bytes = 0;
        let start = usize::try_from(after_offset - self.gone).unwrap_or(usize::MAX).min(self.records.len());
        let records: Vec<_> = self
            .records
            .range(start..)
            .take(limits.batch_events_max.max(1))
            .take_while(|record| until.is_none_or(|until| record.position <= until))
            .take_while(|record| {
                let first = bytes == 0;
                bytes += record.event.size();
                first || bytes <= limits.batch_bytes_max
            })
            .cloned()
            .collect();
        Ok(match records.last() {
            Some(last) => {
                let last = last.position;
                Step::Yield(ReadItem::Batch(records), last)
            }
            None => Step::Wait,
        })
    }

    fn trim(&mut self, trim: Trim) -> u64 {
        let before = self.gone;
        while let Some(oldest) = self.records.front() {
            let wanted = trim.up_to.is_some_and(|up_to| oldest.position <= up_to)
                || trim.events_max.is_some_and(|max| self.records.len() as u64 > max)
                || trim.bytes_max.is_some_and(|max| self.bytes > max);
            if !wanted {
                break;
            }
            self.bytes -= oldest.event.size() as u64;
            self.gone_stored = oldest.stored;
            self.gone += 1;
            self.records.pop_front();
        }
        self.gone - before
    }
}
