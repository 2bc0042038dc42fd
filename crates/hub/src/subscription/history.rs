//! Reading the log of a partition until its live tail is reached.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use synapse_hub_core::{
    Position, Result, Timestamp,
    backend::{Gap, GapReason, ReadItem, ReadLimits, Record},
};

use crate::{
    Filters,
    catalog::Topic,
    hub::Inner,
    resolve::End,
    retry::until_healed,
    tail::{Join, Member, Waker},
};

/// What reading history yields.
pub(super) enum Step {
    /// Events, unfiltered.
    Batch(Vec<Record>),
    Gap(Gap),
    /// The tail is reached: it goes on there. Nothing follows.
    Live(Member),
    /// The end is reached. Nothing follows.
    Done,
}

/// What a reader reads, and for whom.
pub(super) struct Source {
    pub(super) hub: Arc<Inner>,
    pub(super) topic: Arc<Topic>,
    pub(super) partition: u32,
    pub(super) filters: Arc<Filters>,
    /// The subscription, where it is woken, and the reader's index within it.
    pub(super) seat: (u64, Arc<Waker>, usize),
}

/// Reads a partition after a position until the tail or the end is reached. Waits while the backend is away.
pub(super) fn read(source: Source, mut after: Position, until: Option<End>) -> impl Stream<Item = Result<Step>> + Send {
    let Source { hub, topic, partition, filters, seat: (subscriber, waker, index) } = source;
    async_stream::try_stream! {
        let open = until_healed(|| hub.catalog.partition(&topic, partition)).await?;
        let limits = &hub.options.limits;
        let read = ReadLimits { batch_events_max: limits.delivery_events, batch_bytes_max: limits.delivery_bytes };
        // A time that has passed is a place in the log.
        let end = match until {
            Some(End::At(position)) => Some(position),
            Some(End::Time(time)) if time <= Timestamp::now() => Some(until_healed(|| open.log.find(time)).await?),
            _ => None,
        };
        let mut may_be_ahead = false;
        loop {
            let join = || open.tail.join(subscriber, (&waker, index), &filters, after, may_be_ahead);
            let stop_at = match end {
                Some(end) => end,
                None => match until_healed(join).await? {
                    Join::Joined(member) => {
                        yield Step::Live(member);
                        return;
                    }
                    Join::Behind(head) => head,
                    Join::Ahead => {
                        let bounds = until_healed(|| open.log.bounds()).await?;
                        if after > bounds.end {
                            let (earliest, resume) = (bounds.earliest, Position::START);
                            yield Step::Gap(Gap { after, resume, earliest, lost: None, reason: GapReason::Recreated });
                            after = resume;
                        }
                        may_be_ahead = true;
                        continue;
                    }
                },
            };
            if stop_at > after {
                let mut items = open.log.read(after, Some(stop_at), read);
                while let Some(item) = items.next().await {
                    match item? {
                        ReadItem::Batch(records) => {
                            after = records.last().map_or(after, |record| record.position);
                            yield Step::Batch(records);
                        }
                        ReadItem::Gap(gap) => {
                            after = gap.resume;
                            yield Step::Gap(gap);
                        }
                    }
                }
            }
            if end.is_some() {
                yield Step::Done;
                return;
            }
            after = after.max(stop_at);
        }
    }
}
