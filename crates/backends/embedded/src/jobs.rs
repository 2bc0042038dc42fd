//! What the writer does besides writing: removing data, in steps between which appends go on.

use std::sync::Arc;

use fjall::{Keyspace, PersistMode, Slice};
use synapse_hub_core::{
    Result,
    backend::{Trim, Trimmed},
};
use tokio::sync::oneshot;

use crate::{
    keys::{BatchHeader, PartitionState, batch_key, deleted_key, offset_of},
    partition::Partition,
    store::{Engine, failed},
};

/// How many keys, and about how many bytes of values, one step removes.
const STEP_KEYS: usize = 10_000;
const STEP_BYTES: usize = 32 << 20;

/// Work that is done in steps.
pub(crate) enum Job {
    Trim(TrimJob, oneshot::Sender<Result<Trimmed>>),
    Purge(PurgeJob),
}

/// The removal of a partition's oldest batches.
pub(crate) struct TrimJob {
    partition: Arc<Partition>,
    approximate: bool,
    /// Everything up to here goes, and so many more events and bytes.
    up_to: u64,
    events: u64,
    bytes: u64,
    removed: u64,
}

impl TrimJob {
    pub(crate) fn new(partition: Arc<Partition>, trim: Trim) -> Self {
        let state = partition.state();
        Self {
            approximate: trim.approximate,
            up_to: trim.up_to.map_or(0, |position| position.major().min(state.last)),
            events: trim.events_max.map_or(0, |max| state.events.saturating_sub(max)),
            bytes: trim.bytes_max.map_or(0, |max| state.bytes.saturating_sub(max)),
            removed: 0,
            partition,
        }
    }

    /// Removes some; what was removed when all is done.
    pub(crate) fn step(&mut self, engine: &Engine, recent_bytes_max: usize) -> Result<Option<Trimmed>> {
        // Of what was never stored nothing is removed.
        let Some(key) = self.partition.key() else { return Ok(Some(Trimmed { removed: Some(0) })) };
        let before = self.partition.state();
        let mut state = before;
        let mut batch = engine.database.batch();
        let (mut bytes, mut done) = (0, true);
        for guard in engine.log.range(batch_key(&key, state.first)..=batch_key(&key, state.last)) {
            let (stored_key, value) = guard.into_inner().map_err(failed)?;
            let (base, header) = (offset_of(&stored_key), BatchHeader::decode(&value));
            let (visible_from, last) = (base.max(state.low + 1), header.last(base));
            let visible = (last + 1).saturating_sub(visible_from);
            let wanted = self.events.max((self.up_to + 1).saturating_sub(visible_from));
            if self.bytes == 0 && wanted == 0 {
                break;
            }
            if self.bytes == 0 && wanted < visible {
                if !self.approximate {
                    self.take(&mut state, wanted, visible_from + wanted - 1, header);
                }
                break;
            }
            batch.remove(&engine.log, stored_key);
            self.take(&mut state, visible, last, header);
            state.first = last + 1;
            state.bytes = state.bytes.saturating_sub(value.len() as u64);
            self.bytes = self.bytes.saturating_sub(value.len() as u64);
            bytes += value.len();
            if batch.len() >= STEP_KEYS || bytes >= STEP_BYTES {
                done = false;
                break;
            }
        }
        if state.events == 0 {
            (state.low, state.first) = (state.last, state.last + 1);
        }
        if state != before {
            batch.insert(&engine.state, key.as_slice(), state.encode());
            // Readers are told before it happens: none may find events missing and not know why.
            self.partition.publish(key, state, Vec::new(), recent_bytes_max);
            engine.commit(batch, Some(PersistMode::Buffer))?;
        }
        Ok(done.then_some(Trimmed { removed: Some(self.removed) }))
    }

    /// Takes so many events away, of which the last had this offset.
    fn take(&mut self, state: &mut PartitionState, events: u64, last: u64, header: BatchHeader) {
        self.removed += events;
        self.events = self.events.saturating_sub(events);
        state.events = state.events.saturating_sub(events);
        state.low = state.low.max(last);
        state.low_stored_nanos = header.stored_nanos;
    }
}

/// The removal of a deleted topic's data.
pub(crate) struct PurgeJob {
    topic: u64,
    keyspace: usize,
    /// The last key that was removed.
    after: Option<Slice>,
}

impl PurgeJob {
    pub(crate) fn new(topic: u64) -> Self {
        Self { topic, keyspace: 0, after: None }
    }

    /// Removes some; true when all is done.
    pub(crate) fn step(&mut self, engine: &Engine) -> Result<bool> {
        let keyspaces: [&Keyspace; 5] = [&engine.log, &engine.producers, &engine.dedup, &engine.expiry, &engine.state];
        let Some(keyspace) = keyspaces.get(self.keyspace) else {
            let mut batch = engine.database.batch();
            batch.remove(&engine.catalog, deleted_key(self.topic));
            engine.commit(batch, Some(PersistMode::Buffer))?;
            return Ok(true);
        };
        let mut batch = engine.database.batch();
        let prefix = self.topic.to_be_bytes();
        let start = self.after.clone().unwrap_or_else(|| prefix.as_slice().into());
        let mut last = None;
        for guard in keyspace.range(start..) {
            let key = guard.key().map_err(failed)?;
            if !key.starts_with(&prefix) || batch.len() >= STEP_KEYS {
                break;
            }
            last = Some(key.clone());
            batch.remove(keyspace, key);
        }
        if batch.len() < STEP_KEYS {
            (self.keyspace, self.after) = (self.keyspace + 1, None);
        } else {
            self.after = last;
        }
        engine.commit(batch, None)?;
        Ok(false)
    }
}
