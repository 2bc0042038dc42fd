//! The one thread that writes: it gathers what arrives while a write is under way into the next one.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;
use fjall::{OwnedWriteBatch, PersistMode};
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Durability, Error, Event, Position, Result, Timestamp,
    backend::{Append, Appended, PRODUCER_IDLE, PRODUCER_WINDOW_BATCHES, ProducerBatch, Trim, Trimmed},
    batch,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    partition::{Partition, RESERVE, Recent, batch_at},
    store::{BATCH_HEADER_BYTES, BatchHeader, Engine, PartitionState, Store, batch_key, failed, full, offset_of},
};

/// How many keys one write removes at most.
const REMOVE_KEYS: usize = 10_000;
/// How many expired deduplication records one append removes at most.
const EXPIRE_KEYS: usize = 256;
/// How often the free space of the disk is looked at.
const SPACE_INTERVAL: Duration = Duration::from_millis(500);
/// How often producers that stopped publishing are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
/// How many producers are held in memory; beyond that all are read again from the disk when they publish.
const PRODUCERS_MAX: usize = 20_000;

pub(crate) enum Command {
    Append(Box<Request>),
    Trim(Arc<Partition>, Trim, oneshot::Sender<Result<Trimmed>>),
    Delete(Vec<Arc<Partition>>, Vec<[u8; 12]>, oneshot::Sender<Result<()>>),
    Stop(Vec<Arc<Partition>>, oneshot::Sender<()>),
}

pub(crate) struct Request {
    pub(crate) partition: Arc<Partition>,
    pub(crate) append: Append,
    /// The value to be stored, with room for its header; made anew when events turn out to be duplicates.
    pub(crate) value: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<Appended>>,
    /// Room in the queue, given back when the request is done.
    pub(crate) _room: OwnedSemaphorePermit,
}

/// The value of a batch, with room for its header.
pub(crate) fn encode_value(events: &[Event], zstd_level: Option<i32>) -> Vec<u8> {
    let stored = batch::encode_stored(&batch::encode(events), zstd_level);
    let mut value = Vec::with_capacity(BATCH_HEADER_BYTES + stored.len());
    value.resize(BATCH_HEADER_BYTES, 0);
    value.extend_from_slice(&stored);
    value
}

pub(crate) struct Writer {
    store: Arc<Store>,
    /// All partitions that were opened, for the case that the engine is opened again.
    opened: Arc<parking_lot::Mutex<Vec<Arc<Partition>>>>,
    producers: FxHashMap<([u8; 12], ByteString), VecDeque<Remembered>>,
    space_checked: Option<(Instant, bool)>,
    forgotten: Instant,
}

/// A producer's batch that is stored.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    sequence: u64,
    base: u64,
    events: u32,
}

/// What becomes of a request once the group is written.
enum Outcome {
    Done(Appended),
    Failed(Error),
}

/// A write that is being gathered.
struct Group<'a> {
    engine: &'a Engine,
    batch: OwnedWriteBatch,
    partitions: FxHashMap<[u8; 12], (Arc<Partition>, PartitionState, Vec<Recent>)>,
    /// Deduplication records of this very group.
    dedup: FxHashMap<Bytes, u64>,
    persist: Option<PersistMode>,
    now: Timestamp,
}

impl Writer {
    pub(crate) fn new(store: Arc<Store>, opened: Arc<parking_lot::Mutex<Vec<Arc<Partition>>>>) -> Self {
        Self { store, opened, producers: FxHashMap::default(), space_checked: None, forgotten: Instant::now() }
    }

    /// Runs until it is told to stop, or nobody can tell it anything any more.
    pub(crate) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        self.forget_idle_producers();
        while let Ok(first) = commands.recv() {
            let mut next = Some(first);
            let mut appends = Vec::new();
            let mut bytes = 0;
            while let Some(command) = next.take() {
                match command {
                    Command::Append(request) => {
                        bytes += request.value.len();
                        appends.push(*request);
                        if bytes < self.store.options.write_bytes_max {
                            next = commands.try_recv().ok();
                        }
                    }
                    other => {
                        self.append_all(std::mem::take(&mut appends));
                        if self.control(other) {
                            return;
                        }
                    }
                }
            }
            self.append_all(appends);
            if self.forgotten.elapsed() > FORGET_INTERVAL {
                self.forget_idle_producers();
            }
        }
    }

    fn control(&mut self, command: Command) -> bool {
        match command {
            Command::Append(_) => false,
            Command::Trim(partition, trim, reply) => {
                let outcome = self.trim(&partition, trim);
                let _ = reply.send(outcome);
                false
            }
            Command::Delete(partitions, keys, reply) => {
                partitions.iter().for_each(|partition| partition.delete());
                self.producers.retain(|(partition, _), _| !keys.contains(partition));
                let _ = reply.send(self.delete(&keys));
                false
            }
            Command::Stop(partitions, reply) => {
                if let Err(error) = self.stop(&partitions) {
                    tracing::error!(%error, "the embedded log could not be closed in an orderly way");
                }
                self.store.close();
                let _ = reply.send(());
                true
            }
        }
    }

    fn append_all(&mut self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let mut replies = Vec::with_capacity(requests.len());
        let written = self.write(requests, &mut replies);
        if let Err(error) = &written
            && self.space_checked.is_none_or(|(_, enough)| enough)
        {
            self.recover(error);
        }
        for (reply, outcome, room) in replies {
            let outcome = match (&written, outcome) {
                (Err(error), Outcome::Done(_)) => Err(error.clone()),
                (Ok(()), Outcome::Done(appended)) => Ok(appended),
                (_, Outcome::Failed(error)) => Err(error),
            };
            // A publisher that is gone needs no answer.
            let _ = reply.send(outcome);
            drop(room);
        }
    }

    #[allow(clippy::type_complexity)] // The parts of a request, taken apart.
    fn write(
        &mut self,
        requests: Vec<Request>,
        replies: &mut Vec<(oneshot::Sender<Result<Appended>>, Outcome, OwnedSemaphorePermit)>,
    ) -> Result<()> {
        let ready = self.check_space().and_then(|()| self.store.engine());
        let engine = match ready {
            Ok(engine) => engine,
            Err(error) => {
                replies.extend(
                    requests.into_iter().map(|request| (request.reply, Outcome::Failed(error.clone()), request._room)),
                );
                return Ok(());
            }
        };
        let mut group = Group {
            batch: engine.database.batch(),
            engine: &engine,
            partitions: FxHashMap::default(),
            dedup: FxHashMap::default(),
            persist: None,
            now: Timestamp::now(),
        };
        let mut failure = None;
        for request in requests {
            let Request { partition, append, value, reply, _room } = request;
            let outcome = match self.add(&mut group, &partition, append, value) {
                Ok(appended) => Outcome::Done(appended),
                Err(error) => {
                    if error.code() == Code::StorageCorrupt {
                        failure = Some(error.clone());
                    }
                    Outcome::Failed(error)
                }
            };
            replies.push((reply, outcome, _room));
        }
        failure.map_or(Ok(()), Err)?;
        let Group { mut batch, partitions, persist, .. } = group;
        for (key, (_, state, _)) in &partitions {
            batch.insert(&engine.state, key.as_slice(), state.encode());
        }
        batch.durability(persist).commit().map_err(failed)?;
        for (partition, state, recent) in partitions.into_values() {
            partition.publish(state, recent, self.store.options.recent_bytes);
        }
        Ok(())
    }

    /// Adds one request to the group.
    fn add(
        &mut self,
        group: &mut Group<'_>,
        partition: &Arc<Partition>,
        mut append: Append,
        mut value: Vec<u8>,
    ) -> Result<Appended> {
        if partition.is_deleted() {
            return Err(Error::new(Code::TopicNotFound, "the topic was deleted while this was on its way"));
        }
        group.persist = group.persist.max_of(append.durability);
        if let Some(producer) = &append.producer
            && let Some(known) = self.recognise(group.engine, &partition.key, producer)?
        {
            return Ok(known);
        }
        let mut appended = Appended { positions: vec![Position::START; append.events.len()], ..Appended::default() };
        let mut fresh: Vec<u32> = (0..append.events.len() as u32).collect();
        let mut repeats = Vec::new();
        if let Some(window) = append.dedup_window {
            group.expire(&partition.key)?;
            repeats = group.deduplicate(&partition.key, &append.events, window, &mut appended, &mut fresh)?;
            if fresh.len() < append.events.len() {
                append.events = fresh.iter().map(|&index| append.events[index as usize].clone()).collect();
                value = encode_value(&append.events, self.store.options.zstd_level);
            }
        }
        let base = group.place(partition, append.events, value);
        for (at, &index) in fresh.iter().enumerate() {
            appended.positions[index as usize] = Position::offset(base + at as u64);
        }
        for (index, first) in repeats {
            appended.positions[index as usize] = appended.positions[first as usize];
        }
        if let Some(window) = append.dedup_window {
            group.remember_ids(&partition.key, base, window);
        }
        if let Some(producer) = &append.producer {
            self.remember(group, &partition.key, producer, base, fresh.len() as u32);
        }
        Ok(appended)
    }

    fn recognise(
        &mut self,
        engine: &Engine,
        partition: &[u8; 12],
        producer: &ProducerBatch,
    ) -> Result<Option<Appended>> {
        let key = (*partition, producer.id.clone());
        if !self.producers.contains_key(&key) {
            if self.producers.len() >= PRODUCERS_MAX {
                self.producers.clear();
            }
            let mut remembered = VecDeque::new();
            for guard in engine.producers.prefix(producer_key(partition, &producer.id, None)) {
                let (stored_key, value) = guard.into_inner().map_err(failed)?;
                remembered.extend(Remembered::decode(&stored_key, &value));
            }
            self.producers.insert(key.clone(), remembered);
        }
        let Some(remembered) = self.producers.get(&key) else { return Ok(None) };
        if let Some(known) = remembered.iter().find(|known| known.sequence == producer.sequence) {
            let positions = (known.base..known.base + u64::from(known.events)).map(Position::offset).collect();
            return Ok(Some(Appended { positions, duplicate: true, deduplicated: Vec::new() }));
        }
        match remembered.front() {
            Some(oldest) if remembered.len() >= PRODUCER_WINDOW_BATCHES && producer.sequence < oldest.sequence => {
                Err(Error::new(
                    Code::ProducerSequenceTooOld,
                    format!(
                        "batch {} of producer {} is older than the {PRODUCER_WINDOW_BATCHES} that are remembered; it may be stored already, so it was not stored again",
                        producer.sequence, producer.id
                    ),
                ))
            }
            _ => Ok(None),
        }
    }

    fn remember(
        &mut self,
        group: &mut Group<'_>,
        partition: &[u8; 12],
        producer: &ProducerBatch,
        base: u64,
        events: u32,
    ) {
        let known = Remembered { sequence: producer.sequence, base, events };
        let remembered = self.producers.entry((*partition, producer.id.clone())).or_default();
        let at = remembered.partition_point(|other| other.sequence < known.sequence);
        remembered.insert(at, known);
        let key = |sequence| producer_key(partition, &producer.id, Some(sequence));
        group.batch.insert(&group.engine.producers, key(known.sequence), known.encode(group.now));
        while remembered.len() > PRODUCER_WINDOW_BATCHES
            && let Some(oldest) = remembered.pop_front()
        {
            group.batch.remove(&group.engine.producers, key(oldest.sequence));
        }
    }

    /// Refuses writes while the disk has too little room, so that the engine never fails in the middle of one.
    fn check_space(&mut self) -> Result<()> {
        let enough = match self.space_checked {
            Some((when, enough)) if when.elapsed() < SPACE_INTERVAL => enough,
            _ => {
                let free = self.store.free_bytes();
                let enough = free.is_none_or(|free| free >= self.store.options.free_bytes_min);
                self.space_checked = Some((Instant::now(), enough));
                enough
            }
        };
        if enough { Ok(()) } else { Err(full(self.store.folder())) }
    }

    /// After a failed write nothing in memory is certain: what is on the disk holds.
    fn recover(&mut self, error: &Error) {
        tracing::error!(%error, "a write to the embedded log failed; opening it again");
        self.producers.clear();
        let reopened = self.store.reopen().and_then(|()| self.store.engine()).and_then(|engine| {
            let partitions = self.opened.lock().clone();
            partitions.iter().try_for_each(|partition| partition.reload(&engine))
        });
        if let Err(error) = reopened {
            tracing::error!(%error, "the embedded log cannot be opened again yet");
        }
    }

    fn trim(&mut self, partition: &Arc<Partition>, trim: Trim) -> Result<Trimmed> {
        let engine = self.store.engine()?;
        let mut state = partition.state();
        let before = state.events;
        let over_events = trim.events_max.map_or(0, |max| state.events.saturating_sub(max));
        let up_to = trim.up_to.map_or(0, |position| position.major().min(state.last));
        let mut batch = engine.database.batch();
        let mut removed = 0;
        let first = batch_at(&engine, &partition.key, state.low + 1)?.unwrap_or(0);
        for guard in engine.log.range(batch_key(&partition.key, first)..=batch_key(&partition.key, u64::MAX)) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            let base = offset_of(&key);
            let last = base + u64::from(BatchHeader::decode(&value).events) - 1;
            let visible_from = base.max(state.low + 1);
            if last < visible_from {
                continue;
            }
            let visible = last - visible_from + 1;
            let over_bytes = trim.bytes_max.is_some_and(|max| state.bytes > max);
            let wanted = over_events.saturating_sub(removed).max((up_to + 1).saturating_sub(visible_from));
            if wanted >= visible || over_bytes {
                batch.remove(&engine.log, key);
                removed += visible;
                state.events = state.events.saturating_sub(visible);
                state.bytes = state.bytes.saturating_sub(value.len() as u64);
                state.low = last;
                if batch.len() >= REMOVE_KEYS {
                    batch.insert(&engine.state, partition.key.as_slice(), state.encode());
                    std::mem::replace(&mut batch, engine.database.batch()).commit().map_err(failed)?;
                    partition.publish(state, Vec::new(), self.store.options.recent_bytes);
                }
                continue;
            }
            if wanted > 0 && !trim.approximate {
                state.events = state.events.saturating_sub(wanted);
                state.low = visible_from + wanted - 1;
            }
            break;
        }
        if state.events == 0 {
            state.low = state.last;
        }
        batch.insert(&engine.state, partition.key.as_slice(), state.encode());
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(failed)?;
        partition.publish(state, Vec::new(), self.store.options.recent_bytes);
        Ok(Trimmed { removed: Some(before - state.events) })
    }

    fn delete(&mut self, keys: &[[u8; 12]]) -> Result<()> {
        let engine = self.store.engine()?;
        for key in keys {
            for keyspace in [&engine.log, &engine.state, &engine.producers, &engine.dedup, &engine.expiry] {
                let mut batch = engine.database.batch();
                for guard in keyspace.prefix(key) {
                    batch.remove(keyspace, guard.key().map_err(failed)?);
                    if batch.len() >= REMOVE_KEYS {
                        std::mem::replace(&mut batch, engine.database.batch()).commit().map_err(failed)?;
                    }
                }
                batch.commit().map_err(failed)?;
            }
        }
        engine.persist(PersistMode::Buffer)
    }

    /// Notes that offsets need not be skipped at the next start, and puts everything on the disk.
    fn stop(&mut self, partitions: &[Arc<Partition>]) -> Result<()> {
        let engine = self.store.engine()?;
        let mut batch = engine.database.batch();
        for partition in partitions.iter().filter(|partition| !partition.is_deleted()) {
            let state = partition.state();
            if state.last > 0 {
                batch.insert(&engine.state, partition.key.as_slice(), PartitionState { clean: true, ..state }.encode());
            }
        }
        batch.commit().map_err(failed)?;
        engine.persist(PersistMode::SyncAll)
    }

    fn forget_idle_producers(&mut self) {
        self.forgotten = Instant::now();
        let forget = || -> Result<()> {
            let engine = self.store.engine()?;
            let limit = Timestamp::now().minus(PRODUCER_IDLE).as_nanos();
            let mut batch = engine.database.batch();
            for guard in engine.producers.iter() {
                let (key, value) = guard.into_inner().map_err(failed)?;
                if value.get(12..20).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes) < limit {
                    batch.remove(&engine.producers, key);
                }
            }
            batch.commit().map_err(failed)
        };
        if let Err(error) = forget() {
            tracing::warn!(%error, "producers that stopped publishing could not be forgotten");
        }
    }
}

impl Group<'_> {
    /// Gives the events their offsets; returns the first.
    fn place(&mut self, partition: &Arc<Partition>, events: Vec<Event>, mut value: Vec<u8>) -> u64 {
        let slot = self.partitions.entry(partition.key);
        let (_, state, recent) = slot.or_insert_with(|| (partition.clone(), partition.state(), Vec::new()));
        let base = state.last + 1;
        if events.is_empty() {
            return base;
        }
        state.last += events.len() as u64;
        if state.last > state.reserved {
            state.reserved = state.last + RESERVE;
            // The reservation must outlive the process before an offset of it is given.
            self.persist = self.persist.max_of(Durability::Stored);
        }
        let stored = Timestamp::from_nanos(self.now.as_nanos().max(state.stored_nanos));
        state.stored_nanos = stored.as_nanos();
        state.events += events.len() as u64;
        state.bytes += value.len() as u64;
        let header = BatchHeader { stored_nanos: stored.as_nanos(), events: events.len() as u32 };
        value[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        let bytes = value.len();
        self.batch.insert(&self.engine.log, batch_key(&partition.key, base).as_slice(), Bytes::from(value));
        recent.push(Recent { base, stored, events: events.into(), bytes });
        base
    }

    /// Sorts out the events that are known within the window. Those that repeat an event of the same batch are returned
    /// with the index of the first.
    fn deduplicate(
        &mut self,
        partition: &[u8; 12],
        events: &[Event],
        window: Duration,
        appended: &mut Appended,
        fresh: &mut Vec<u32>,
    ) -> Result<Vec<(u32, u32)>> {
        fresh.clear();
        // The offsets of this batch are not given yet: within it, an event is known by its index.
        let mut within: FxHashMap<Bytes, u32> = FxHashMap::default();
        let mut repeats = Vec::new();
        let oldest = self.now.minus(window).as_nanos();
        for (index, event) in events.iter().enumerate() {
            let key = dedup_key(partition, event);
            let stored = match self.dedup.get(&key) {
                Some(&offset) => Some(offset),
                None => self.engine.dedup.get(&key).map_err(failed)?.and_then(|value| {
                    let word = |at: usize| Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?));
                    (word(8)? as i64 >= oldest).then_some(word(0)?)
                }),
            };
            match stored {
                Some(offset) => {
                    appended.positions[index] = Position::offset(offset);
                    appended.deduplicated.push(index as u32);
                }
                None => match within.get(&key) {
                    Some(&first) => {
                        appended.deduplicated.push(index as u32);
                        repeats.push((index as u32, first));
                    }
                    None => {
                        within.insert(key, index as u32);
                        fresh.push(index as u32);
                    }
                },
            }
        }
        Ok(repeats)
    }

    /// Notes the ids of the events that were placed at `base`.
    fn remember_ids(&mut self, partition: &[u8; 12], base: u64, window: Duration) {
        let Some((_, _, recent)) = self.partitions.get(partition) else { return };
        let Some(placed) = recent.last().filter(|placed| placed.base == base).cloned() else { return };
        let expiry = self.now.as_nanos().saturating_add(i64::try_from(window.as_nanos()).unwrap_or(i64::MAX));
        for (at, event) in placed.events.iter().enumerate() {
            let key = dedup_key(partition, event);
            let offset = base + at as u64;
            let mut value = BytesMut::with_capacity(16);
            value.put_u64(offset);
            value.put_i64(self.now.as_nanos());
            self.batch.insert(&self.engine.dedup, key.clone(), value.freeze());
            self.batch.insert(&self.engine.expiry, expiry_key(partition, expiry, &key[12..]), Bytes::new());
            self.dedup.insert(key, offset);
        }
    }

    /// Removes some records whose window has passed.
    fn expire(&mut self, partition: &[u8; 12]) -> Result<()> {
        let end = expiry_key(partition, self.now.as_nanos(), &[]);
        for guard in self.engine.expiry.range(expiry_key(partition, 0, &[])..end).take(EXPIRE_KEYS) {
            let key = guard.key().map_err(failed)?;
            let mut dedup = BytesMut::from(partition.as_slice());
            dedup.extend_from_slice(key.get(20..).unwrap_or_default());
            // The event may have been stored again since: then its record is newer.
            let newer = self.engine.dedup.get(&dedup).map_err(failed)?.is_some_and(|value| {
                let stored = value.get(8..16).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes);
                let expiry = key.get(12..20).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes);
                stored >= expiry
            });
            if !newer {
                self.batch.remove(&self.engine.dedup, dedup.freeze());
            }
            self.batch.remove(&self.engine.expiry, key);
        }
        Ok(())
    }
}

impl Remembered {
    fn encode(self, now: Timestamp) -> Bytes {
        let mut out = BytesMut::with_capacity(20);
        out.put_u64(self.base);
        out.put_u32(self.events);
        out.put_i64(now.as_nanos());
        out.freeze()
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        Some(Self {
            sequence: u64::from_be_bytes(key.get(key.len().checked_sub(8)?..)?.try_into().ok()?),
            base: u64::from_be_bytes(value.get(..8)?.try_into().ok()?),
            events: u32::from_be_bytes(value.get(8..12)?.try_into().ok()?),
        })
    }
}

fn producer_key(partition: &[u8; 12], producer: &str, sequence: Option<u64>) -> Bytes {
    let mut key = BytesMut::with_capacity(partition.len() + producer.len() + 10);
    key.extend_from_slice(partition);
    key.put_u16(producer.len() as u16);
    key.extend_from_slice(producer.as_bytes());
    if let Some(sequence) = sequence {
        key.put_u64(sequence);
    }
    key.freeze()
}

fn dedup_key(partition: &[u8; 12], event: &Event) -> Bytes {
    let mut key = BytesMut::with_capacity(partition.len() + event.source().len() + event.id().len() + 4);
    key.extend_from_slice(partition);
    key.put_u32(event.source().len() as u32);
    key.extend_from_slice(event.source().as_bytes());
    key.extend_from_slice(event.id().as_bytes());
    key.freeze()
}

fn expiry_key(partition: &[u8; 12], expiry_nanos: i64, identity: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(partition.len() + 8 + identity.len());
    key.extend_from_slice(partition);
    key.put_i64(expiry_nanos);
    key.extend_from_slice(identity);
    key.freeze()
}

trait MaxOf {
    fn max_of(self, durability: Durability) -> Self;
}

impl MaxOf for Option<PersistMode> {
    /// The stronger of what was demanded so far and what this level needs.
    fn max_of(self, durability: Durability) -> Self {
        match (self, durability) {
            (_, Durability::Synced) | (Some(PersistMode::SyncAll), _) => Some(PersistMode::SyncAll),
            (_, Durability::Stored) | (Some(PersistMode::Buffer), _) => Some(PersistMode::Buffer),
            (other, Durability::Memory) => other,
        }
    }
}
