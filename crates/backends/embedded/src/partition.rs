//! A partition as the writer and its readers share it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Event, PartitionId, Position, Result, Timestamp,
    backend::{ReadLimits, Record},
};
use tokio::sync::watch;

use crate::{
    keys::{PartitionKey, PartitionState},
    store::{Engine, failed},
};

/// The partitions that are open.
pub(crate) type Partitions = Arc<Mutex<FxHashMap<PartitionId, Arc<Partition>>>>;

pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) key: PartitionKey,
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
    pub(crate) fn open(engine: &Engine, id: PartitionId, key: PartitionKey) -> Result<Self> {
        let state = load(engine, &key)?;
        let shared = Mutex::new(Shared { state, recent: VecDeque::new(), recent_bytes: 0 });
        Ok(Self { id, key, shared, end: watch::Sender::new(state.last), deleted: AtomicBool::new(false) })
    }

    /// Takes what is on the disk for true, after a failed write.
    pub(crate) fn reload(&self, engine: &Engine) -> Result<()> {
        let state = load(engine, &self.key)?;
        let mut shared = self.shared.lock();
        // What was given is not given again, even if the disk does not know of it.
        let last = state.last.max(shared.state.reserved).max(*self.end.borrow());
        let low = if state.low == state.last { last } else { state.low };
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
    pub(crate) fn publish(&self, state: PartitionState, batches: Vec<Recent>, recent_bytes_max: usize) {
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
