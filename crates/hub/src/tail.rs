//! The live tail of a partition: one reader of the log, one evaluation of all filters, any number of subscribers.
//!
//! The reader puts what it reads into a ring of the latest entries, bounded by `limits.tail_bytes`, with the events that
//! each subscriber wants. A subscriber holds only its place in the ring. One that falls behind the ring's start leaves
//! the tail and reads the log for itself, so that it neither holds back another nor grows the memory.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use parking_lot::{Mutex, MutexGuard};
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Error, PartitionId, Position, Result,
    backend::{EventLog, Gap, GapReason, ReadItem, ReadLimits, Record},
    batch, flat,
};
use synapse_hub_matcher::{Matcher, Scratch};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Filters,
    filter::{EventAttributes, input},
    metrics::TopicMetrics,
};

/// Records that several subscribers share, with their encodings made at most once.
pub struct SharedBatch {
    records: Vec<Record>,
    bytes: usize,
    encoded: OnceLock<Bytes>,
    flat: OnceLock<Box<[OnceLock<Bytes>]>>,
}

impl SharedBatch {
    pub(crate) fn new(records: Vec<Record>) -> Arc<Self> {
        let bytes = records.iter().map(|record| record.event.size() + size_of::<Record>()).sum();
        Arc::new(Self { records, bytes, encoded: OnceLock::new(), flat: OnceLock::new() })
    }

    /// The records, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// All events as one encoded `EventBatch`.
    pub(crate) fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| batch::encode(self.records.iter().map(|record| &record.event)))
    }

    /// The flat JSON of one event.
    pub(crate) fn flat(&self, index: usize) -> Bytes {
        let slots = self.flat.get_or_init(|| self.records.iter().map(|_| OnceLock::new()).collect());
        slots[index].get_or_init(|| flat::encode(&self.records[index].event)).clone()
    }
}

/// Names a filter of a subscriber: the subscriber, and the index of the filter.
type FilterId = (u64, u16);

/// Where a subscriber is woken.
pub(crate) struct Waker {
    pub(crate) notify: Notify,
    ready: Mutex<Vec<usize>>,
}

impl Waker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { notify: Notify::new(), ready: Mutex::default() })
    }

    /// The partitions, by their index in the subscription, that have something.
    pub(crate) fn take_ready(&self) -> Vec<usize> {
        std::mem::take(&mut self.ready.lock())
    }

    fn wake(&self, index: usize) {
        self.ready.lock().push(index);
        self.notify.notify_one();
    }
}

/// A subscriber's place at a tail.
struct Seat {
    waker: Arc<Waker>,
    /// The index of this partition within its subscription.
    index: usize,
    /// The first entry that this subscriber wants and has not seen; `u64::MAX` when there is none.
    pending: AtomicU64,
}

impl Seat {
    fn offer(&self, sequence: u64) {
        if self.pending.fetch_min(sequence, Ordering::AcqRel) == u64::MAX {
            self.waker.wake(self.index);
        }
    }
}

enum Content {
    Batch { batch: Arc<SharedBatch>, wanted: FxHashMap<u64, Vec<u32>> },
    Gap(Gap),
    Failed(Error),
}

struct Entry {
    last: Position,
    bytes: usize,
    content: Content,
}

struct State {
    /// Cancelled, under the lock, when the reader is to stop: what it does after that is of no account.
    running: Option<CancellationToken>,
    ring: VecDeque<Arc<Entry>>,
    ring_bytes: usize,
    /// The number of the first entry in the ring.
    first: u64,
    /// Everything up to here was in the log before the ring's first entry.
    before: Position,
    /// Everything up to here is in the ring or before it.
    head: Position,
    seats: FxHashMap<u64, Arc<Seat>>,
    /// Subscribers without filters.
    all: Vec<u64>,
    matcher: Matcher<FilterId>,
    /// How many subscribers with filters have joined so far.
    joins: u64,
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.ring.len() as u64
    }
}

/// The live tail of a partition. It reads only while it has subscribers.
pub(crate) struct Tail {
    id: PartitionId,
    log: Arc<dyn EventLog>,
    metrics: Arc<TopicMetrics>,
    ring_bytes_max: usize,
    read: ReadLimits,
    state: Mutex<State>,
    starting: tokio::sync::Mutex<()>,
}

/// The outcome of an attempt to join.
pub(crate) enum Join {
    /// The subscriber follows the tail now, through this membership.
    Joined(Member),
    /// The log must be read up to here first.
    Behind(Position),
    /// The subscriber has seen more than the tail. Either the tail will soon be there, or the log was made anew.
    Ahead,
}

/// A subscriber's membership of a tail. Dropping it leaves.
pub(crate) struct Member {
    tail: Arc<Tail>,
    subscriber: u64,
    seat: Arc<Seat>,
    filters: Arc<Filters>,
    /// The next entry to look at.
    next: u64,
    /// From this entry on the tail has evaluated the filters.
    evaluated_from: u64,
    /// Everything up to here was delivered or not wanted.
    after: Position,
}

/// What a member finds at its place.
pub(crate) enum Found {
    /// Events of this batch, by index; `None` stands for all of it.
    Batch(Arc<SharedBatch>, Option<Vec<u32>>),
    Gap(Gap),
    Failed(Error),
    /// Nothing more now.
    Nothing,
    /// The ring has gone on: the log must be read.
    Behind,
}

impl Tail {
    pub(crate) fn new(
        id: PartitionId,
        log: Arc<dyn EventLog>,
        metrics: Arc<TopicMetrics>,
        ring_bytes_max: usize,
        read: ReadLimits,
    ) -> Arc<Self> {
        let state = State {
            running: None,
            ring: VecDeque::new(),
            ring_bytes: 0,
            first: 0,
            before: Position::START,
            head: Position::START,
            seats: FxHashMap::default(),
            all: Vec::new(),
            matcher: Matcher::new(),
            joins: 0,
        };
        let starting = tokio::sync::Mutex::new(());
        Arc::new(Self { id, log, metrics, ring_bytes_max, read, state: Mutex::new(state), starting })
    }

    /// Joins a subscriber that has seen everything up to `after`, unless the ring does not reach back so far.
    /// `may_be_ahead` says that the log does reach to `after`.
    pub(crate) async fn join(
        self: &Arc<Self>,
        subscriber: u64,
        seat: (&Arc<Waker>, usize),
        filters: &Arc<Filters>,
        after: Position,
        may_be_ahead: bool,
    ) -> Result<Join> {
        loop {
            if let Some(join) = self.try_join(subscriber, seat, filters, after, may_be_ahead) {
                return Ok(join);
            }
            let _starting = self.starting.lock().await;
            if self.state.lock().running.is_none() {
                let end = self.log.bounds().await?.end;
                self.start(end);
            }
        }
    }

    fn try_join(
        self: &Arc<Self>,
        subscriber: u64,
        (waker, index): (&Arc<Waker>, usize),
        filters: &Arc<Filters>,
        after: Position,
        may_be_ahead: bool,
    ) -> Option<Join> {
        let mut state = self.state.lock();
        state.running.as_ref()?;
        if after > state.head && !may_be_ahead {
            return Some(Join::Ahead);
        }
        if after < state.before {
            return Some(Join::Behind(state.head));
        }
        let seat = Arc::new(Seat { waker: waker.clone(), index, pending: AtomicU64::new(u64::MAX) });
        state.seats.insert(subscriber, seat.clone());
        if filters.patterns().is_empty() {
            state.all.push(subscriber);
        } else {
            state.joins += 1;
            for (number, pattern) in filters.patterns().iter().enumerate() {
                state.matcher.insert((subscriber, number as u16), pattern);
            }
        }
        let evaluated_from = state.next();
        let next = state.first;
        // Look at what is in the ring already.
        seat.offer(next);
        let filters = filters.clone();
        Some(Join::Joined(Member { tail: self.clone(), subscriber, seat, filters, next, evaluated_from, after }))
    }

    fn start(self: &Arc<Self>, end: Position) {
        let stop = CancellationToken::new();
        {
            let mut state = self.state.lock();
            state.first = state.next();
            state.ring.clear();
            state.ring_bytes = 0;
            (state.before, state.head) = (end, end);
            state.running = Some(stop.clone());
        }
        let reader = Reader { tail: self.clone(), stop: stop.clone(), scratch: Scratch::default() };
        tokio::spawn(async move {
            let items = reader.tail.log.read(end, None, reader.tail.read);
            tokio::select! {
                () = stop.cancelled() => {}
                () = reader.run(items) => {}
            }
        });
    }

    fn leave(&self, member: &Member) {
        let mut state = self.state.lock();
        let seated = state.seats.get(&member.subscriber).is_some_and(|seat| Arc::ptr_eq(seat, &member.seat));
        if !seated {
            return;
        }
        state.seats.remove(&member.subscriber);
        if member.filters.patterns().is_empty() {
            state.all.retain(|&other| other != member.subscriber);
        } else {
            for number in 0..member.filters.patterns().len() {
                state.matcher.remove(&(member.subscriber, number as u16));
            }
        }
        if state.seats.is_empty() {
            state.first = state.next();
            state.ring.clear();
            state.ring_bytes = 0;
            if let Some(stop) = state.running.take() {
                stop.cancel();
            }
            self.metrics.nobody_follows();
        }
    }

    /// How many subscribers the ring has gone on without, because they do not read.
    pub(crate) fn stalled(&self) -> usize {
        let state = self.state.lock();
        state.seats.values().filter(|seat| seat.pending.load(Ordering::Relaxed) < state.first).count()
    }
}

/// The one reader of a partition's tail.
struct Reader {
    tail: Arc<Tail>,
    /// Cancelled when this reader is no longer the one.
    stop: CancellationToken,
    scratch: Scratch,
}

impl Reader {
    async fn run(mut self, mut items: BoxStream<'static, Result<ReadItem>>) {
        while let Some(item) = items.next().await {
            match item {
                Ok(ReadItem::Batch(records)) => self.take_batch(records, &mut items),
                Ok(ReadItem::Gap(gap)) => self.take_gap(gap),
                Err(error) => return self.fail(error),
            }
            // Those who were woken run before the next batch pushes theirs out of the ring. This waits for nobody who
            // does not read.
            tokio::task::yield_now().await;
        }
        self.fail(Error::new(synapse_hub_core::Code::ShuttingDown, "the log ended"));
    }

    /// Takes a batch, together with those that are there already, so that load makes batches.
    fn take_batch(&mut self, mut records: Vec<Record>, items: &mut BoxStream<'static, Result<ReadItem>>) {
        self.tail.metrics.count_log_read();
        let mut after = None;
        while records.len() < self.tail.read.batch_events_max / 2 {
            match items.next().now_or_never() {
                Some(Some(Ok(ReadItem::Batch(more)))) => {
                    self.tail.metrics.count_log_read();
                    records.extend(more);
                }
                Some(other) => {
                    after = other;
                    break;
                }
                None => break,
            }
        }
        self.push_batch(SharedBatch::new(records));
        match after {
            Some(Ok(ReadItem::Gap(gap))) => self.take_gap(gap),
            Some(Err(error)) => self.fail(error),
            _ => {}
        }
    }

    fn push_batch(&mut self, batch: Arc<SharedBatch>) {
        let Some(last) = batch.records().last().map(|record| record.position) else { return };
        // Filters that join while this batch is evaluated would miss it: it is then evaluated again for all.
        loop {
            let (matcher, expected) = {
                let state = self.tail.state.lock();
                (state.matcher.clone(), state.joins)
            };
            let wanted = self.evaluate(&matcher, &batch);
            let Some(mut state) = self.state() else { return };
            if state.joins != expected {
                continue;
            }
            let bytes = batch.bytes;
            let interested: Vec<u64> = wanted.keys().copied().collect();
            let sequence = self.push(&mut state, Entry { last, bytes, content: Content::Batch { batch, wanted } });
            for subscriber in state.all.iter().chain(&interested) {
                if let Some(seat) = state.seats.get(subscriber) {
                    seat.offer(sequence);
                }
            }
            return;
        }
    }

    fn evaluate(&mut self, matcher: &Matcher<FilterId>, batch: &SharedBatch) -> FxHashMap<u64, Vec<u32>> {
        let mut wanted: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
        if matcher.is_empty() {
            return wanted;
        }
        let mut matched = Vec::new();
        for (index, record) in batch.records().iter().enumerate() {
            let attributes = EventAttributes { topic: &self.tail.id.topic, event: &record.event };
            matched.clear();
            matcher.matches(&input(&attributes), &mut self.scratch, &mut matched);
            for &(subscriber, _) in &matched {
                let indices = wanted.entry(subscriber).or_default();
                if indices.last() != Some(&(index as u32)) {
                    indices.push(index as u32);
                }
            }
        }
        wanted
    }

    fn take_gap(&mut self, gap: Gap) {
        let Some(mut state) = self.state() else { return };
        if gap.reason == GapReason::Recreated {
            // What the ring holds stands at positions of the old log, which say nothing of the new.
            state.first = state.next();
            state.ring.clear();
            state.ring_bytes = 0;
            state.before = gap.resume;
        }
        let entry = Entry { last: gap.resume, bytes: size_of::<Entry>(), content: Content::Gap(gap) };
        let sequence = self.push(&mut state, entry);
        state.seats.values().for_each(|seat| seat.offer(sequence));
    }

    fn fail(&mut self, error: Error) {
        let Some(mut state) = self.state() else { return };
        let last = state.head;
        let sequence = self.push(&mut state, Entry { last, bytes: 0, content: Content::Failed(error) });
        state.seats.values().for_each(|seat| seat.offer(sequence));
        // Whoever joins from now on starts a new reader.
        state.running = None;
        self.stop.cancel();
    }

    /// The state, unless this reader was stopped while it was at work: the ring is another's then.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        let state = self.tail.state.lock();
        (!self.stop.is_cancelled()).then_some(state)
    }

    fn push(&self, state: &mut State, entry: Entry) -> u64 {
        let sequence = state.next();
        // A log that was made anew may start with smaller positions.
        state.head = entry.last;
        state.ring_bytes += entry.bytes;
        state.ring.push_back(Arc::new(entry));
        while state.ring_bytes > self.tail.ring_bytes_max && state.ring.len() > 1 {
            if let Some(dropped) = state.ring.pop_front() {
                state.ring_bytes -= dropped.bytes;
                state.before = dropped.last;
                state.first += 1;
            }
        }
        sequence
    }
}

impl Member {
    /// What stands at this place, and moves on.
    pub(crate) fn advance(&mut self) -> Found {
        loop {
            let (entry, sequence) = {
                let state = self.tail.state.lock();
                let seated = state.seats.get(&self.subscriber).is_some_and(|seat| Arc::ptr_eq(seat, &self.seat));
                if self.next < state.first {
                    let pending = self.seat.pending.load(Ordering::Acquire);
                    if !seated || pending < state.first || self.next < self.evaluated_from {
                        return Found::Behind;
                    }
                    // Nothing that fell out of the ring was wanted.
                    self.next = pending.min(state.next());
                    self.after = self.after.max(state.before);
                }
                let sequence = self.next;
                match state.ring.get((sequence - state.first) as usize) {
                    Some(entry) => (entry.clone(), sequence),
                    None => {
                        // Under the lock of the ring, so that nothing is offered in between.
                        self.seat.pending.store(u64::MAX, Ordering::Release);
                        self.after = self.after.max(state.head);
                        return Found::Nothing;
                    }
                }
            };
            self.next = sequence + 1;
            if let Some(found) = self.look_at(&entry, sequence) {
                return found;
            }
        }
    }

    fn look_at(&mut self, entry: &Entry, sequence: u64) -> Option<Found> {
        match &entry.content {
            Content::Batch { batch, wanted } => {
                let seen_before = batch.records().first().is_some_and(|record| record.position <= self.after);
                let selected = if sequence < self.evaluated_from || seen_before {
                    self.select(batch)
                } else if self.filters.patterns().is_empty() {
                    None
                } else {
                    Some(wanted.get(&self.subscriber).cloned().unwrap_or_default())
                };
                self.after = self.after.max(entry.last);
                if selected.as_ref().is_some_and(Vec::is_empty) {
                    return None;
                }
                Some(Found::Batch(batch.clone(), selected))
            }
            Content::Gap(gap) => {
                if sequence < self.evaluated_from && gap.resume <= self.after {
                    return None;
                }
                self.after = gap.resume;
                Some(Found::Gap(gap.clone()))
            }
            Content::Failed(error) => Some(Found::Failed(error.clone())),
        }
    }

    /// For entries that were in the ring before the subscriber joined, or that it has seen in part: what it wants and has
    /// not seen.
    fn select(&self, batch: &SharedBatch) -> Option<Vec<u32>> {
        let topic = &self.tail.id.topic;
        let wanted = |record: &Record| record.position > self.after && self.filters.matches(topic, &record.event);
        let indices = batch.records().iter().enumerate().filter(|(_, record)| wanted(record));
        Some(indices.map(|(index, _)| index as u32).collect())
    }

    /// Everything up to here was delivered or not wanted.
    pub(crate) fn after(&self) -> Position {
        self.after
    }

    /// When nothing is waiting for this subscriber: the end of what was looked at for it.
    pub(crate) fn idle_at(&mut self) -> Option<Position> {
        let state = self.tail.state.lock();
        if self.seat.pending.load(Ordering::Acquire) != u64::MAX || state.running.is_none() {
            return None;
        }
        self.next = state.next();
        self.after = self.after.max(state.head);
        Some(self.after)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tail.leave(self);
    }
}
