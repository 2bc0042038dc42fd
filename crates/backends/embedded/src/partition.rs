//! A partition as the writer and its readers share it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Error, Event, PartitionId, Position, Result, Timestamp, TopicName,
    backend::{ReadLimits, Record},
};
use tokio::sync::watch;

use crate::{
    catalog,
    keys::{PartitionKey, PartitionState, partition_key},
    store::{Engine, failed},
};

/// The partitions that are open.
#[derive(Default)]
pub(crate) struct Partitions {
    /// Those of topics that exist. They are kept, because not all that is known of them is on the disk.
    known: FxHashMap<PartitionId, Arc<Partition>>,
    /// Those of which nothing was stored. They are here only for as long as somebody has them.
    unknown: FxHashMap<PartitionId, Weak<Partition>>,
}

impl Partitions {
    /// A partition that is open.
    pub(crate) fn get(&self, id: &PartitionId) -> Option<Arc<Partition>> {
        self.known.get(id).cloned().or_else(|| self.unknown.get(id)?.upgrade())
    }

    /// A partition, which is opened unless it is open. Whoever calls this holds the lock, so that none is opened twice.
    pub(crate) fn open(&mut self, engine: &Engine, id: &PartitionId) -> Result<Arc<Partition>> {
        if let Some(partition) = self.get(id) {
            return Ok(partition);
        }
        let partition = Arc::new(Partition::open(engine, id.clone())?);
        if partition.key().is_some() {
            self.keep(partition.clone());
        } else {
            if self.unknown.len() == self.unknown.capacity() {
                // Those that nobody has any more make room, so that it does not grow with all that was ever asked for.
                self.unknown.retain(|_, partition| partition.strong_count() > 0);
            }
            self.unknown.insert(id.clone(), Arc::downgrade(&partition));
        }
        Ok(partition)
    }

    /// Keeps a partition whose topic exists from now on.
    pub(crate) fn keep(&mut self, partition: Arc<Partition>) {
        self.unknown.remove(&partition.id);
        self.known.insert(partition.id.clone(), partition);
    }

    /// Those of topics that exist.
    pub(crate) fn known(&self) -> Vec<Arc<Partition>> {
        self.known.values().cloned().collect()
    }

    /// All that somebody has.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.known.values().cloned().chain(self.unknown.values().filter_map(Weak::upgrade)).collect()
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn opened(&self) -> usize {
        self.known.len() + self.unknown.len()
    }

    /// Ends the partitions of a topic that was deleted.
    pub(crate) fn delete(&mut self, topic: &TopicName) {
        self.known.extract_if(|id, _| id.topic == *topic).for_each(|(_, partition)| partition.delete());
        let unknown = self.unknown.extract_if(|id, _| id.topic == *topic);
        unknown.filter_map(|(_, partition)| partition.upgrade()).for_each(|partition| partition.delete());
    }
}

pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    /// Set once the topic exists: before there is an event, or anything on the disk.
    key: OnceLock<PartitionKey>,
    shared: Mutex<Shared>,
    /// The largest offset that readers may see, and a change for every deletion.
    pub(crate) end: watch::Sender<u64>,
    deleted: AtomicBool,
}

struct Shared {
    state: PartitionState,
    recent: VecDeque<Recent>,
    recent_bytes: usize,
}

/// A batch that was written lately, as its publisher's events.
pub(crate) struct Recent {
    pub(crate) base: u64,
    pub(crate) stored: Timestamp,
    pub(crate) events: Vec<Event>,
    pub(crate) bytes: usize,
}

impl Recent {
    fn last(&self) -> u64 {
        self.base + self.events.len() as u64 - 1
    }

    fn record(&self, offset: u64) -> Record {
        let event = self.events[(offset - self.base) as usize].clone();
        Record { position: Position::offset(offset), stored: self.stored, event }
    }
}

impl Partition {
    fn open(engine: &Engine, id: PartitionId) -> Result<Self> {
        let (key, state) = match stored_key(engine, &id)? {
            Some(key) => (OnceLock::from(key), load(engine, &key)?),
            None => (OnceLock::new(), PartitionState::default()),
        };
        let shared = Mutex::new(Shared { state, recent: VecDeque::new(), recent_bytes: 0 });
        Ok(Self { id, key, shared, end: watch::Sender::new(state.last), deleted: AtomicBool::new(false) })
    }

    /// The prefix of its keys; `None` while nothing was stored of it.
    pub(crate) fn key(&self) -> Option<PartitionKey> {
        self.key.get().copied()
    }

    /// The prefix of its keys, for whoever has seen that there is something.
    pub(crate) fn stored_key(&self) -> Result<PartitionKey> {
        self.key().ok_or_else(|| Error::new(Code::Internal, "a partition with events has no id"))
    }

    /// Takes what is on the disk for true, after a failed write.
    pub(crate) fn reload(&self, engine: &Engine) -> Result<()> {
        let Some(key) = self.key().map_or_else(|| stored_key(engine, &self.id), |key| Ok(Some(key)))? else {
            return Ok(());
        };
        let state = load(engine, &key)?;
        let mut shared = self.shared.lock();
        // What was given is not given again, even if the disk does not know of it.
        let last = state.last.max(shared.state.reserved).max(*self.end.borrow());
        let low = if state.low == state.last { last } else { state.low };
        self.key.get_or_init(|| key);
        shared.state = PartitionState { last, low, reserved: last, jumped: last, ..state };
        shared.recent.clear();
        shared.recent_bytes = 0;
        drop(shared);
        self.end.send_replace(last);
        Ok(())
    }

    pub(crate) fn state(&self) -> PartitionState {
        self.shared.lock().state
    }

    /// Shows readers what was written, or what is about to be removed.
    pub(crate) fn publish(
        &self,
        key: PartitionKey,
        state: PartitionState,
        batches: Vec<Recent>,
        recent_bytes_max: usize,
    ) {
        self.key.get_or_init(|| key);
        let mut shared = self.shared.lock();
        shared.state = state;
        for batch in batches {
            shared.recent_bytes += batch.bytes;
            shared.recent.push_back(batch);
        }
        shared.forget(|shared, first| shared.recent_bytes > recent_bytes_max || first.last() <= state.low);
        drop(shared);
        self.end.send_replace(state.last);
    }

    /// Drops the batch at `base` and those before it from memory.
    pub(crate) fn forget_recent(&self, base: u64) {
        self.shared.lock().forget(|_, first| first.base <= base);
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.shared.lock().forget(|_, _| true);
        self.end.send_modify(|_| {});
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The latest events after `after`, if they are still in memory.
    pub(crate) fn recent_after(&self, after: u64, until: u64, limits: ReadLimits) -> Option<Vec<Record>> {
        let shared = self.shared.lock();
        if after + 1 < shared.recent.front()?.base {
            return None;
        }
        let start = shared.recent.partition_point(|batch| batch.last() <= after);
        let mut records = Vec::new();
        let mut bytes = 0;
        for batch in shared.recent.range(start..) {
            let full = records.len() + batch.events.len() > limits.batch_events_max
                || bytes + batch.bytes > limits.batch_bytes_max;
            if (full && !records.is_empty()) || batch.base > until {
                break;
            }
            let from = batch.base.max(after + 1);
            records.extend((from..=batch.last().min(until)).map(|offset| batch.record(offset)));
            bytes += batch.bytes;
        }
        (!records.is_empty()).then_some(records)
    }
}

impl Shared {
    /// Drops the oldest batches from memory for as long as this says so.
    fn forget(&mut self, goes: impl Fn(&Self, &Recent) -> bool) {
        while self.recent.front().is_some_and(|first| goes(self, first)) {
            self.recent_bytes -= self.recent.pop_front().map_or(0, |first| first.bytes);
        }
    }
}

/// The prefix of a partition's keys, if its topic exists.
fn stored_key(engine: &Engine, id: &PartitionId) -> Result<Option<PartitionKey>> {
    Ok(catalog::topic_id(engine, &id.topic)?.map(|topic| partition_key(topic, id.partition)))
}

/// What is on the disk of a partition, for a hub that goes on with it.
fn load(engine: &Engine, key: &PartitionKey) -> Result<PartitionState> {
    let stored = engine.state.get(key).map_err(failed)?;
    let mut state = stored.and_then(|bytes| PartitionState::decode(&bytes)).unwrap_or_default();
    if !state.clean && state.reserved > state.last {
        // Offsets may have been given for events that were acknowledged in memory only, and seen by readers.
        if state.low == state.last {
            state.low = state.reserved;
        }
        state.last = state.reserved;
        state.jumped = state.reserved;
    }
    // The first write reserves anew, and so also says on the disk that a hub is at work.
    state.reserved = state.last;
    state.clean = false;
    Ok(state)
}
