//! A write that is being gathered: the batches of many publishers become one write of the engine.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use fjall::{OwnedWriteBatch, PersistMode};
use rustc_hash::{FxHashMap, FxHashSet};
use synapse_hub_core::{
    Code, Durability, Error, Event, Position, Result, Timestamp,
    backend::{Append, Appended},
};

use crate::{
    catalog::NewTopics,
    keys::{BATCH_HEADER_BYTES, BatchHeader, PartitionKey, PartitionState, batch_key, partition_key, word},
    partition::{Partition, Recent},
    producers::Producers,
    store::{Engine, failed},
    writer::encode_value,
};

/// How many offsets are reserved at a time.
const RESERVE: u64 = 1 << 20;
/// How many expired identities one write removes at least, if there are so many.
const EXPIRE_KEYS_MIN: usize = 256;
/// The longest source and id together, in bytes: they are part of a key.
const IDENTITY_BYTES_MAX: usize = 48 << 10;

pub(crate) struct Group<'a> {
    engine: &'a Engine,
    producers: &'a mut Producers,
    zstd_level: Option<i32>,
    batch: OwnedWriteBatch,
    partitions: FxHashMap<PartitionKey, Slot>,
    topics: NewTopics,
    /// Where events stand whose identities are noted by this very group.
    identities: FxHashMap<Bytes, u64>,
    /// The partitions whose expired identities are removed by this group.
    expired: FxHashSet<PartitionKey>,
    persist: Option<PersistMode>,
    now: Timestamp,
}

/// What becomes of a partition with this group.
struct Slot {
    partition: Arc<Partition>,
    state: PartitionState,
    recent: Vec<Recent>,
}

/// A group that was written, to be shown to readers.
pub(crate) struct Written(FxHashMap<PartitionKey, Slot>);

impl<'a> Group<'a> {
    pub(crate) fn new(engine: &'a Engine, producers: &'a mut Producers, zstd_level: Option<i32>) -> Self {
        Self {
            engine,
            producers,
            zstd_level,
            batch: engine.database.batch(),
            partitions: FxHashMap::default(),
            topics: NewTopics::default(),
            identities: FxHashMap::default(),
            expired: FxHashSet::default(),
            persist: None,
            now: Timestamp::now(),
        }
    }

    /// Adds a batch, whose value was made before.
    ///
    /// # Errors
    /// `topic_not_found`, `producer_sequence_too_old`, `invalid_event`: then nothing was added. With any other error the
    /// group cannot be written.
    pub(crate) fn add(&mut self, partition: &Arc<Partition>, append: Append, value: Vec<u8>) -> Result<Appended> {
        let Append { events, durability, producer, dedup_window } = append;
        if partition.is_deleted() {
            return Err(Error::new(Code::TopicNotFound, "the topic was deleted while this was on its way"));
        }
        let key = match partition.key() {
            Some(key) => key,
            None => partition_key(self.topics.id(self.engine, &partition.id.topic)?, partition.id.partition),
        };
        if let Some(producer) = &producer
            && let Some(known) = self.producers.recognise(self.engine, &key, producer)?
        {
            // The first try may not be on the disk yet.
            self.demand(durability);
            return Ok(known);
        }
        let appended = match dedup_window {
            Some(window) => self.place_unknown(partition, &key, events, value, window)?,
            None => {
                let count = events.len() as u64;
                let base = self.place(partition, &key, events, value);
                let positions = (base..base + count).map(Position::offset).collect();
                Appended { positions, ..Appended::default() }
            }
        };
        self.demand(durability);
        if let Some(producer) = &producer {
            let positions = &appended.positions;
            self.producers.remember(self.engine, &mut self.batch, &key, producer, positions, self.now);
        }
        Ok(appended)
    }

    /// Writes everything at once.
    pub(crate) fn write(mut self) -> Result<Written> {
        for (key, slot) in &self.partitions {
            if slot.partition.key().is_none() {
                self.topics.write(self.engine, &mut self.batch, &slot.partition.id.topic);
            }
            self.batch.insert(&self.engine.state, key.as_slice(), slot.state.encode());
        }
        if self.batch.is_empty() {
            if let Some(mode) = self.persist {
                self.engine.database.persist(mode).map_err(failed)?;
            }
        } else {
            self.engine.commit(self.batch, self.persist)?;
        }
        Ok(Written(self.partitions))
    }

    /// Makes the write as durable as this, or more.
    fn demand(&mut self, durability: Durability) {
        self.persist = match (durability, self.persist) {
            (Durability::Synced, _) | (_, Some(PersistMode::SyncAll)) => Some(PersistMode::SyncAll),
            (Durability::Stored, _) => Some(PersistMode::Buffer),
            (Durability::Memory, persist) => persist,
        };
    }

    /// Gives the events their offsets; returns the first.
    fn place(&mut self, partition: &Arc<Partition>, key: &PartitionKey, events: Vec<Event>, mut value: Vec<u8>) -> u64 {
        let slot = self.partitions.entry(*key).or_insert_with(|| Slot {
            partition: partition.clone(),
            state: partition.state(),
            recent: Vec::new(),
        });
        let state = &mut slot.state;
        let base = state.last + 1;
        if events.is_empty() {
            return base;
        }
        state.last += events.len() as u64;
        let reserve = state.last > state.reserved;
        if reserve {
            state.reserved = state.last + RESERVE;
        }
        let stored = self.now.as_nanos().max(state.stored_nanos);
        state.stored_nanos = stored;
        state.events += events.len() as u64;
        state.bytes += value.len() as u64;
        let header = BatchHeader { stored_nanos: stored, events: events.len() as u32 };
        value[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        self.batch.insert(&self.engine.log, batch_key(key, base).as_slice(), Bytes::from(value));
        let bytes = events.iter().map(Event::size).sum();
        slot.recent.push(Recent { base, stored: Timestamp::from_nanos(stored), events, bytes });
        if reserve {
            // The reservation must outlive the process before somebody sees an offset of it.
            self.demand(Durability::Stored);
        }
        base
    }

    /// Gives offsets to those of the events that are not known within the window.
    fn place_unknown(
        &mut self,
        partition: &Arc<Partition>,
        partition_key: &PartitionKey,
        mut events: Vec<Event>,
        mut value: Vec<u8>,
        window: Duration,
    ) -> Result<Appended> {
        let keys = events.iter().map(|event| identity_key(partition_key, event)).collect::<Vec<_>>();
        if let Some(index) = keys.iter().position(|key| key.len() > IDENTITY_BYTES_MAX) {
            let what = "`source` and `id` together are too long to recognise the event by them; shorten them";
            return Err(Error::new(Code::InvalidEvent, what).index(index).field("id"));
        }
        self.expire(partition_key, keys.len())?;
        let oldest = self.now.minus(window).as_nanos();
        let mut appended = Appended { positions: vec![Position::START; events.len()], ..Appended::default() };
        let mut fresh: Vec<usize> = Vec::with_capacity(events.len());
        // The events of this batch have no offsets yet: within it they are known by their place among the fresh ones.
        let mut within: FxHashMap<&Bytes, usize> = FxHashMap::default();
        let mut repeats = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            if let Some(offset) = self.known(key, oldest)? {
                appended.positions[index] = Position::offset(offset);
                appended.deduplicated.push(index as u32);
            } else if let Some(&first) = within.get(key) {
                appended.deduplicated.push(index as u32);
                repeats.push((index, first));
            } else {
                within.insert(key, fresh.len());
                fresh.push(index);
            }
        }
        if fresh.len() < events.len() {
            events = fresh.iter().map(|&index| events[index].clone()).collect();
            value = encode_value(&events, self.zstd_level);
        }
        let base = self.place(partition, partition_key, events, value);
        let at = |place: usize| base + place as u64;
        for (place, &index) in fresh.iter().enumerate() {
            appended.positions[index] = Position::offset(at(place));
            self.note_identity(partition_key, &keys[index], at(place), window);
        }
        for (index, first) in repeats {
            appended.positions[index] = Position::offset(at(first));
        }
        Ok(appended)
    }

    /// Where an event of this identity stands that was not stored before `oldest`.
    fn known(&self, key: &Bytes, oldest: i64) -> Result<Option<u64>> {
        if let Some(&offset) = self.identities.get(key) {
            return Ok(Some(offset));
        }
        let Some(value) = self.engine.dedup.get(key).map_err(failed)? else { return Ok(None) };
        let recent = word(&value, 8).is_some_and(|stored| stored as i64 >= oldest);
        Ok(word(&value, 0).filter(|_| recent))
    }

    fn note_identity(&mut self, partition: &PartitionKey, key: &Bytes, offset: u64, window: Duration) {
        let now = self.now.as_nanos();
        let expiry = now.saturating_add(i64::try_from(window.as_nanos()).unwrap_or(i64::MAX));
        let mut value = BytesMut::with_capacity(16);
        value.put_u64(offset);
        value.put_i64(now);
        self.batch.insert(&self.engine.dedup, key.clone(), value.freeze());
        self.batch.insert(&self.engine.expiry, expiry_key(partition, expiry, &key[12..]), Bytes::new());
        self.identities.insert(key.clone(), offset);
    }

    /// Removes some identities whose window has passed: more than are added, so that they never pile up.
    fn expire(&mut self, partition: &PartitionKey, added: usize) -> Result<()> {
        if !self.expired.insert(*partition) {
            return Ok(());
        }
        let end = expiry_key(partition, self.now.as_nanos(), &[]);
        let limit = EXPIRE_KEYS_MIN.max(added * 2);
        for guard in self.engine.expiry.range(expiry_key(partition, 0, &[])..end).take(limit) {
            let key = guard.key().map_err(failed)?;
            let identity = [partition, key.get(20..).unwrap_or_default()].concat();
            // It may have been stored again since: then what is noted is newer.
            let stored = self.engine.dedup.get(&identity).map_err(failed)?.and_then(|value| word(&value, 8));
            if stored.is_some_and(|stored| Some(stored) < word(&key, 12)) {
                self.batch.remove(&self.engine.dedup, identity);
            }
            self.batch.remove(&self.engine.expiry, key);
        }
        Ok(())
    }
}

impl Written {
    /// The partitions that are written for the first time.
    pub(crate) fn new_partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.0.values().map(|slot| &slot.partition).filter(|partition| partition.key().is_none())
    }

    /// Shows it to readers. Returns the partition, first offset and size of each batch, in order.
    pub(crate) fn publish(self, recent_bytes_max: usize) -> Vec<(Arc<Partition>, u64, usize)> {
        let mut batches = Vec::new();
        for (key, Slot { partition, state, recent }) in self.0 {
            batches.extend(recent.iter().map(|batch| (partition.clone(), batch.base, batch.bytes)));
            partition.publish(key, state, recent, recent_bytes_max);
        }
        batches
    }
}

fn identity_key(partition: &PartitionKey, event: &Event) -> Bytes {
    let (source, id) = (event.source(), event.id());
    let mut key = BytesMut::with_capacity(partition.len() + source.len() + id.len() + 4);
    key.extend_from_slice(partition);
    // The length tells where the source ends.
    key.put_u32(source.len() as u32);
    key.extend_from_slice(source.as_bytes());
    key.extend_from_slice(id.as_bytes());
    key.freeze()
}

fn expiry_key(partition: &PartitionKey, expiry_nanos: i64, identity: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(partition.len() + 8 + identity.len());
    key.extend_from_slice(partition);
    key.put_i64(expiry_nanos);
    key.extend_from_slice(identity);
    key.freeze()
}
