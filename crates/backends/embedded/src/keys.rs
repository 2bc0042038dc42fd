//! What the keys and values of the storage engine look like.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `log` | topic id, partition, first offset | stored time, number of events, record batch |
//! | `state` | topic id, partition | [`PartitionState`] |
//! | `producers` | topic id, partition, producer, sequence | where the batch stands, see `producers.rs` |
//! | `dedup` | topic id, partition, `source`, `id` | offset, stored time |
//! | `expiry` | topic id, partition, expiry, `source`, `id` | nothing |
//! | `catalog` | topic name, or one of the keys below | topic id |
//! | `meta` | see `meta.rs` | |

use bytes::{BufMut as _, Bytes, BytesMut};

/// The key in `catalog` that holds the latest topic id.
pub(crate) const LATEST_ID: &[u8] = b"\0latest";
/// The key in `catalog` that holds the version of all this.
pub(crate) const FORMAT: &[u8] = b"\0format";
/// The version of all this.
pub(crate) const FORMAT_VERSION: u64 = 1;
/// Before the ids of deleted topics whose data is still to be removed, as keys in `catalog`.
pub(crate) const DELETED: &[u8] = b"\0deleted";
/// The first key in `catalog` that may be a topic name.
pub(crate) const FIRST_NAME: &[u8] = b"\x01";

/// What is known of a partition, written with every change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartitionState {
    /// The largest offset given.
    pub(crate) last: u64,
    /// Offsets up to here are gone.
    pub(crate) low: u64,
    /// No batch that is still there starts before this offset.
    pub(crate) first: u64,
    /// When the latest event that is gone was stored.
    pub(crate) low_stored_nanos: i64,
    /// Offsets up to here may have been given by a hub that died: they are not given again.
    pub(crate) reserved: u64,
    /// Offsets were skipped before this one, for the last time.
    pub(crate) jumped: u64,
    /// How many events there are.
    pub(crate) events: u64,
    /// How many bytes their batches take.
    pub(crate) bytes: u64,
    /// When the latest batch was stored.
    pub(crate) stored_nanos: i64,
    /// Whether the hub stopped in an orderly way after this.
    pub(crate) clean: bool,
}

impl PartitionState {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(73);
        for value in [self.last, self.low, self.first, self.reserved, self.jumped, self.events, self.bytes] {
            out.put_u64(value);
        }
        out.put_i64(self.low_stored_nanos);
        out.put_i64(self.stored_nanos);
        out.put_u8(u8::from(self.clean));
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            last: word(bytes, 0)?,
            low: word(bytes, 8)?,
            first: word(bytes, 16)?,
            reserved: word(bytes, 24)?,
            jumped: word(bytes, 32)?,
            events: word(bytes, 40)?,
            bytes: word(bytes, 48)?,
            low_stored_nanos: word(bytes, 56)? as i64,
            stored_nanos: word(bytes, 64)? as i64,
            clean: *bytes.get(72)? == 1,
        })
    }

    /// How many events stood after this offset and up to `up_to`, if that can be told: across skipped offsets the
    /// distance counts events that never were.
    pub(crate) fn distance(&self, after: u64, up_to: u64) -> Option<u64> {
        (after >= self.jumped).then(|| up_to - after)
    }
}

/// The eight bytes at this place as a number.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The prefix of all keys of a partition.
pub(crate) type PartitionKey = [u8; 12];

pub(crate) fn partition_key(topic: u64, partition: u32) -> PartitionKey {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&topic.to_be_bytes());
    key[8..].copy_from_slice(&partition.to_be_bytes());
    key
}

/// The key of the batch that starts at `offset`.
pub(crate) fn batch_key(partition: &PartitionKey, offset: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..12].copy_from_slice(partition);
    key[12..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset in a batch's key.
pub(crate) fn offset_of(key: &[u8]) -> u64 {
    word(key, 12).unwrap_or_default()
}

/// The key of a deleted topic in `catalog`.
pub(crate) fn deleted_key(topic: u64) -> Vec<u8> {
    [DELETED, &topic.to_be_bytes()].concat()
}

/// Bytes before the record batch in a value of `log`.
pub(crate) const BATCH_HEADER_BYTES: usize = 12;

/// What stands before a record batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchHeader {
    pub(crate) stored_nanos: i64,
    pub(crate) events: u32,
}

impl BatchHeader {
    pub(crate) fn decode(value: &[u8]) -> Self {
        let nanos = word(value, 0).unwrap_or_default() as i64;
        let events = value.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(1, u32::from_be_bytes);
        Self { stored_nanos: nanos, events: events.max(1) }
    }

    pub(crate) fn encode(self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        out[..8].copy_from_slice(&self.stored_nanos.to_be_bytes());
        out[8..].copy_from_slice(&self.events.to_be_bytes());
        out
    }

    /// The last offset of the batch that starts at `base`.
    pub(crate) fn last(self, base: u64) -> u64 {
        base + u64::from(self.events) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_partition_comes_back() {
        let state = PartitionState {
            last: 1,
            low: 2,
            first: 3,
            low_stored_nanos: -4,
            reserved: 5,
            jumped: 6,
            events: 7,
            bytes: 8,
            stored_nanos: i64::MIN,
            clean: true,
        };
        assert_eq!(PartitionState::decode(&state.encode()), Some(state));
        assert_eq!(PartitionState::decode(&state.encode()[..72]), None);
    }

    #[test]
    fn batches_are_ordered_by_topic_partition_and_offset() {
        let mut keys = Vec::new();
        for topic in [1, 300] {
            for partition in [0, 256] {
                keys.extend([0, 255, 256, u64::MAX].map(|offset| batch_key(&partition_key(topic, partition), offset)));
            }
        }
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| [0, 255, 256, u64::MAX].contains(&offset_of(key))));
    }
}
