//! A partition as the writer and its readers share it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use synapse_hub_core::{
    Event, PartitionId, Position, Result, Timestamp,
    backend::{Gap, GapReason, ReadItem, ReadLimits, Record},
    batch,
};
use tokio::sync::watch;

use crate::store::{BATCH_HEADER_BYTES, BatchHeader, Engine, PartitionState, batch_key, failed, offset_of};

/// How many offsets are reserved at a time.
pub(crate) const RESERVE: u64 = 1 << 20;

pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    pub(crate) key: [u8; 12],
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
#[derive(Clone)]
pub(crate) struct Recent {
    pub(crate) base: u64,
    pub(crate) stored: Timestamp,
    pub(crate) events: Arc<[Event]>,
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

/// What a look into the log found.
pub(crate) enum Look {
    Item(ReadItem, u64),
    /// Nothing between the wanted place and this offset: those were skipped.
    Nothing(u64),
}

impl Partition {
    pub(crate) fn open(engine: &Engine, id: PartitionId, key: [u8; 12]) -> Result<Self> {
        let state = load(engine, &key)?;
        let end = watch::Sender::new(state.last);
        let shared = Mutex::new(Shared { state, recent: VecDeque::new(), recent_bytes: 0 });
        Ok(Self { id, key, shared, end, deleted: AtomicBool::new(false) })
    }

    /// Takes what is on the disk for true, after a failed write.
    pub(crate) fn reload(&self, engine: &Engine) -> Result<()> {
        let state = load(engine, &self.key)?;
        let mut shared = self.shared.lock();
        shared.state = PartitionState { reserved: state.reserved.max(shared.state.reserved), ..state };
        shared.state.last = shared.state.last.max(*self.end.borrow());
        shared.recent.clear();
        shared.recent_bytes = 0;
        Ok(())
    }

    pub(crate) fn state(&self) -> PartitionState {
        self.shared.lock().state
    }

    /// Shows readers what was written.
    pub(crate) fn publish(&self, state: PartitionState, batches: Vec<Recent>, recent_bytes_max: usize) {
        {
            let mut shared = self.shared.lock();
            shared.state = state;
            for batch in batches {
                shared.recent_bytes += batch.bytes;
                shared.recent.push_back(batch);
            }
            while let Some(first) = shared.recent.front()
                && (shared.recent_bytes > recent_bytes_max || first.last() <= state.low)
            {
                shared.recent_bytes -= first.bytes;
                shared.recent.pop_front();
            }
        }
        self.end.send_replace(state.last);
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.end.send_modify(|_| {});
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Whether history after `after` is gone.
    pub(crate) fn gap_after(&self, after: u64, earliest: impl FnOnce() -> Option<Position>) -> Option<Gap> {
        let state = self.state();
        if after >= state.low {
            return None;
        }
        // Across skipped offsets the distance counts events that never were.
        let lost = (after >= state.jumped || state.jumped == 0).then(|| state.low - after);
        Some(Gap {
            after: Position::offset(after),
            resume: Position::offset(state.low),
            earliest: earliest(),
            lost,
            reason: GapReason::Trimmed,
        })
    }

    /// The latest events after `after`, if they are still in memory.
    pub(crate) fn recent_after(&self, after: u64, until: u64, limits: ReadLimits) -> Option<Vec<Record>> {
        let shared = self.shared.lock();
        let first = shared.recent.front()?;
        if after + 1 < first.base {
            return None;
        }
        let start = shared.recent.partition_point(|batch| batch.last() <= after);
        let mut records = Vec::new();
        let mut bytes = 0;
        for batch in shared.recent.iter().skip(start) {
            let full = records.len() + batch.events.len() > limits.batch_events_max
                || bytes + batch.bytes > limits.batch_bytes_max;
            if full && !records.is_empty() {
                break;
            }
            let from = batch.base.max(after + 1);
            records.extend((from..=batch.last().min(until)).map(|offset| batch.record(offset)));
            bytes += batch.bytes;
        }
        (!records.is_empty()).then_some(records)
    }

    /// Reads the log after `after` and up to `until`. Blocks on the disk.
    pub(crate) fn look(&self, engine: &Engine, after: u64, until: u64, limits: ReadLimits) -> Result<Look> {
        let first = batch_at(engine, &self.key, after + 1)?.unwrap_or(after + 1);
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        for guard in engine.log.range(batch_key(&self.key, first)..=batch_key(&self.key, until)) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            let (base, value) = (offset_of(&key), Bytes::from(value));
            let header = BatchHeader::decode(&value);
            let last = base + u64::from(header.events) - 1;
            if last <= after {
                continue;
            }
            let full = records.len() + header.events as usize > limits.batch_events_max
                || bytes + value.len() > limits.batch_bytes_max;
            if full && !records.is_empty() {
                break;
            }
            bytes += value.len();
            match batch::decode_stored(value.slice(BATCH_HEADER_BYTES.min(value.len())..)) {
                Ok(events) => {
                    let stored = Timestamp::from_nanos(header.stored_nanos);
                    let offsets = base..=last;
                    let wanted = offsets.zip(events).filter(|(offset, _)| *offset > after && *offset <= until);
                    records.extend(wanted.map(|(offset, event)| Record {
                        position: Position::offset(offset),
                        stored,
                        event,
                    }));
                }
                Err(_) if !records.is_empty() => break,
                Err(error) => {
                    tracing::error!(partition = %self.id, offset = base, %error, "a stored batch cannot be read and is skipped");
                    let gap = Gap {
                        after: Position::offset(after),
                        resume: Position::offset(last),
                        earliest: Some(Position::offset(last + 1)),
                        lost: Some(last - after.max(base - 1)),
                        reason: GapReason::Unreadable,
                    };
                    return Ok(Look::Item(ReadItem::Gap(gap), last));
                }
            }
        }
        Ok(match records.last() {
            Some(record) => {
                let last = record.position.major();
                Look::Item(ReadItem::Batch(records), last)
            }
            None => Look::Nothing(until),
        })
    }
}

/// The first offset of the batch that holds `offset`, or would.
pub(crate) fn batch_at(engine: &Engine, partition: &[u8; 12], offset: u64) -> Result<Option<u64>> {
    let mut before = engine.log.range(batch_key(partition, 0)..=batch_key(partition, offset));
    match before.next_back() {
        Some(guard) => Ok(Some(offset_of(&guard.key().map_err(failed)?))),
        None => Ok(None),
    }
}

fn load(engine: &Engine, key: &[u8; 12]) -> Result<PartitionState> {
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
    state.clean = false;
    Ok(state)
}
