//! What a subscription hands out.

use std::sync::Arc;

use bytes::Bytes;
use synapse_hub_core::{
    Cursor, PartitionId, Position, Timestamp,
    backend::{Gap, Record},
    batch,
};

use crate::SharedBatch;

/// What a subscription yields.
#[derive(Debug)]
pub enum Item {
    /// Events.
    Delivery(Delivery),
    /// Events are missing here.
    Gap {
        /// Where.
        partition: PartitionId,
        /// What is known of it.
        gap: Gap,
        /// The cursor after the gap.
        cursor: Cursor,
    },
    /// Nothing was wanted for a while; the cursor moved on all the same.
    Heartbeat(Cursor),
    /// The subscription ends with this.
    Ended {
        /// The cursor to resume from.
        cursor: Cursor,
        /// Why.
        reason: EndReason,
    },
}

/// Why a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// `until` was reached.
    Until,
    /// The hub stops.
    Shutdown,
    /// The topic was deleted.
    TopicDeleted,
}

/// Events of one partition, in order.
pub struct Delivery {
    partition: PartitionId,
    batch: Arc<SharedBatch>,
    selection: Selection,
    cursor_rest: Arc<str>,
}

impl Delivery {
    pub(super) fn new(
        partition: PartitionId,
        batch: Arc<SharedBatch>,
        selection: Selection,
        cursor_rest: Arc<str>,
    ) -> Self {
        Self { partition, batch, selection, cursor_rest }
    }

    /// Where they come from.
    pub fn partition(&self) -> &PartitionId {
        &self.partition
    }

    /// How many, at least one.
    #[allow(clippy::len_without_is_empty)] // It is never empty.
    pub fn len(&self) -> usize {
        self.selection.len()
    }

    /// The events at their places.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.selection.indices().map(|index| &self.batch.records()[index])
    }

    /// The position of the last event.
    pub fn last_position(&self) -> Position {
        self.records().last().map_or(Position::START, |record| record.position)
    }

    /// The events as an encoded `EventBatch`; a whole batch is encoded once for all subscribers.
    pub fn encoded(&self) -> Bytes {
        if self.selection.len() == self.batch.records().len() {
            return self.batch.encoded().clone();
        }
        batch::encode(self.records().map(|record| &record.event))
    }

    /// Each event as a flat JSON object, encoded once for all subscribers.
    pub fn flat(&self) -> Vec<Bytes> {
        self.selection.indices().map(|index| self.batch.flat(index)).collect()
    }

    /// The event at this index among them as a flat JSON object, encoded once for all subscribers.
    pub fn flat_at(&self, index: usize) -> Bytes {
        self.batch.flat(self.selection.at(index))
    }

    /// What follows `topic/partition@position` in the cursors of these events, without the comma; often empty.
    pub fn cursor_rest(&self) -> &str {
        &self.cursor_rest
    }

    /// The cursor after the event at this position.
    pub fn cursor_text(&self, position: Position) -> String {
        let comma = if self.cursor_rest.is_empty() { "" } else { "," };
        format!("{}@{position}{comma}{}", self.partition, self.cursor_rest)
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("partition", &self.partition)
            .field("events", &self.len())
            .finish_non_exhaustive()
    }
}

/// Which events of a batch.
#[derive(Debug, Clone)]
pub(super) enum Selection {
    Range(std::ops::Range<u32>),
    Indices(Vec<u32>),
}

impl Selection {
    pub(super) fn new(batch: &SharedBatch, selected: Option<Vec<u32>>) -> Self {
        match selected {
            Some(indices) => Self::Indices(indices),
            None => Self::Range(0..batch.records().len() as u32),
        }
    }

    /// Only the events that were stored before this moment.
    pub(super) fn before(self, batch: &SharedBatch, until: Option<Timestamp>) -> Self {
        let Some(until) = until else { return self };
        let earlier = self.indices().filter(|&index| batch.records()[index].stored < until);
        Self::Indices(earlier.map(|index| index as u32).collect())
    }

    fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Indices(indices) => indices.len(),
        }
    }

    /// The index in the batch of the event at this index among the selected.
    fn at(&self, index: usize) -> usize {
        match self {
            Self::Range(range) => range.start as usize + index,
            Self::Indices(indices) => indices[index] as usize,
        }
    }

    fn indices(&self) -> impl Iterator<Item = usize> {
        let (range, indices) = match self {
            Self::Range(range) => (range.clone(), [].as_slice()),
            Self::Indices(indices) => (0..0, indices.as_slice()),
        };
        range.chain(indices.iter().copied()).map(|index| index as usize)
    }

    /// Cut into pieces of at most so many events and about so many bytes, each with at least one event.
    pub(super) fn split(self, batch: &SharedBatch, events_max: usize, bytes_max: usize) -> Vec<Self> {
        let mut cuts = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        for (at, index) in self.indices().enumerate() {
            let size = batch.records()[index].event.size();
            if events > 0 && (events == events_max || bytes + size > bytes_max) {
                cuts.push(at);
                (events, bytes) = (0, 0);
            }
            events += 1;
            bytes += size;
        }
        if cuts.is_empty() {
            return if self.len() == 0 { Vec::new() } else { vec![self] };
        }
        cuts.push(self.len());
        let mut start = 0;
        let piece = |end: usize| {
            let piece = match &self {
                Self::Range(range) => Self::Range(range.start + start as u32..range.start + end as u32),
                Self::Indices(indices) => Self::Indices(indices[start..end].to_vec()),
            };
            start = end;
            piece
        };
        cuts.into_iter().map(piece).collect()
    }
}
