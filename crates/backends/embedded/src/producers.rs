//! What is remembered of producers: the positions of their latest batches, on the disk and, of those at work, in memory.

use std::{collections::VecDeque, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;
use fjall::OwnedWriteBatch;
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Error, Position, Result, Timestamp,
    backend::{Appended, PRODUCER_IDLE, PRODUCER_WINDOW_BATCHES, ProducerBatch},
};

use crate::{
    keys::{PartitionKey, word},
    store::{Engine, failed},
};

/// How many producers are held in memory; beyond that all are read again from the disk when they publish.
const PRODUCERS_MAX: usize = 4096;

/// The producers that are at work.
#[derive(Default)]
pub(crate) struct Producers(FxHashMap<(PartitionKey, ByteString), VecDeque<Remembered>>);

/// A producer's batch that is stored, in order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remembered {
    sequence: u64,
    place: Place,
}

/// Where the events of a batch stand.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// One after the other.
    Dense { base: u64, events: u32 },
    /// Here and there, because some of them were known already.
    Sparse(Arc<[u64]>),
}

impl Producers {
    /// What was answered when this batch was stored.
    ///
    /// # Errors
    /// `producer_sequence_too_old` when it may have been stored, but that is not remembered.
    pub(crate) fn recognise(
        &mut self,
        engine: &Engine,
        partition: &PartitionKey,
        producer: &ProducerBatch,
    ) -> Result<Option<Appended>> {
        let key = (*partition, producer.id.clone());
        if !self.0.contains_key(&key) {
            if self.0.len() >= PRODUCERS_MAX {
                self.0.clear();
            }
            let mut remembered = VecDeque::new();
            for guard in engine.producers.prefix(producer_key(partition, &producer.id, None)) {
                let (stored_key, value) = guard.into_inner().map_err(failed)?;
                remembered.extend(Remembered::decode(&stored_key, &value));
            }
            self.0.insert(key.clone(), remembered);
        }
        let Some(remembered) = self.0.get(&key) else { return Ok(None) };
        if let Ok(at) = remembered.binary_search_by_key(&producer.sequence, |known| known.sequence) {
            let positions = remembered[at].place.positions();
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

    /// Notes a new batch, which must have been asked for before.
    pub(crate) fn remember(
        &mut self,
        engine: &Engine,
        write: &mut OwnedWriteBatch,
        partition: &PartitionKey,
        producer: &ProducerBatch,
        positions: &[Position],
        now: Timestamp,
    ) {
        let known = Remembered { sequence: producer.sequence, place: Place::of(positions) };
        let key = |sequence| producer_key(partition, &producer.id, Some(sequence));
        write.insert(&engine.producers, key(known.sequence), known.encode(now));
        let remembered = self.0.entry((*partition, producer.id.clone())).or_default();
        let at = remembered.partition_point(|other| other.sequence < known.sequence);
        remembered.insert(at, known);
        while remembered.len() > PRODUCER_WINDOW_BATCHES
            && let Some(oldest) = remembered.pop_front()
        {
            write.remove(&engine.producers, key(oldest.sequence));
        }
    }

    /// Drops what is held in memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Drops what is held in memory of a topic.
    pub(crate) fn forget_topic(&mut self, topic: u64) {
        self.0.retain(|(partition, _), _| word(partition, 0) != Some(topic));
    }
}

/// Removes from the disk what is remembered of producers that have stopped.
pub(crate) fn forget_idle(engine: &Engine) -> Result<()> {
    let limit = Timestamp::now().minus(PRODUCER_IDLE).as_nanos();
    let mut batch = engine.database.batch();
    for guard in engine.producers.iter() {
        let (key, value) = guard.into_inner().map_err(failed)?;
        if word(&value, 0).is_none_or(|stored| (stored as i64) < limit) {
            batch.remove(&engine.producers, key);
        }
    }
    engine.commit(batch, None)
}

impl Place {
    fn of(positions: &[Position]) -> Self {
        let offsets = positions.iter().map(|position| position.major());
        let base = offsets.clone().next().unwrap_or_default();
        if base > 0 && offsets.clone().eq(base..base + positions.len() as u64) {
            return Self::Dense { base, events: positions.len() as u32 };
        }
        Self::Sparse(offsets.collect())
    }

    fn positions(&self) -> Vec<Position> {
        match self {
            Self::Dense { base, events } => (*base..*base + u64::from(*events)).map(Position::offset).collect(),
            Self::Sparse(offsets) => offsets.iter().copied().map(Position::offset).collect(),
        }
    }
}

impl Remembered {
    /// The time, then the first offset and the number of events, or a zero and all offsets.
    fn encode(&self, now: Timestamp) -> Bytes {
        let mut out = BytesMut::with_capacity(24);
        out.put_i64(now.as_nanos());
        match &self.place {
            Place::Dense { base, events } => {
                out.put_u64(*base);
                out.put_u64(u64::from(*events));
            }
            Place::Sparse(offsets) => {
                out.put_u64(0);
                offsets.iter().for_each(|&offset| out.put_u64(offset));
            }
        }
        out.freeze()
    }

    fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let place = match word(value, 8)? {
            0 => Place::Sparse(value.get(16..)?.chunks_exact(8).filter_map(|chunk| word(chunk, 0)).collect()),
            base => Place::Dense { base, events: word(value, 16)? as u32 },
        };
        Some(Self { sequence: word(key, key.len().checked_sub(8)?)?, place })
    }
}

/// With no number it is the prefix of all the producer's keys.
fn producer_key(partition: &PartitionKey, producer: &str, sequence: Option<u64>) -> Bytes {
    let mut key = BytesMut::with_capacity(partition.len() + producer.len() + 10);
    key.extend_from_slice(partition);
    // The length comes first, so that no producer's keys are a prefix of another's.
    key.put_u16(producer.len() as u16);
    key.extend_from_slice(producer.as_bytes());
    if let Some(sequence) = sequence {
        key.put_u64(sequence);
    }
    key.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_a_batch_comes_back() {
        for offsets in [vec![5, 6, 7], vec![1], vec![7, 3, 3, 8], vec![]] {
            let positions: Vec<_> = offsets.into_iter().map(Position::offset).collect();
            let known = Remembered { sequence: 9, place: Place::of(&positions) };
            let key = producer_key(&[1; 12], "p", Some(9));
            let decoded = Remembered::decode(&key, &known.encode(Timestamp::from_nanos(3))).unwrap();
            assert_eq!(decoded.sequence, 9);
            assert_eq!(decoded.place.positions(), positions);
        }
    }
}
