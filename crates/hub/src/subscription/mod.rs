//! Subscriptions: from a place in history into the live stream, over any number of topics.
//!
//! A subscription is a set of partition readers, each at its own position. A reader reads the log ([`history`]) until it
//! has reached the partition's live tail, and then follows that; one that falls behind goes back to the log. Nothing is
//! fetched before the subscriber asks for it.

mod delivery;
mod history;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use futures::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Cursor, Error, PartitionId, Point, Position, Result, Timestamp, TopicName, TopicPattern, backend::Gap,
};
use tokio::{sync::watch, time::Instant};

pub use self::delivery::{Delivery, EndReason, Item};
use self::{delivery::Selection, history::Step};
use crate::{
    Filters, SharedBatch,
    catalog::{Fate, Topic},
    hub::Inner,
    resolve::{self, End},
    tail::{Found, Member, Waker},
};

/// What a subscriber wants.
#[derive(Debug, Clone)]
pub struct SubscribeRequest {
    /// Topics by name or pattern; patterns include topics created later.
    pub topics: Vec<TopicPattern>,
    /// Which events.
    pub filters: Filters,
    /// Where to start.
    pub replay_from: Point,
    /// Where to end; `None` means never.
    pub until: Option<Point>,
    /// The most events in one delivery; the hub's limit holds as well.
    pub batch_events_max: Option<usize>,
    /// The most bytes in one delivery, about; the hub's limit holds as well.
    pub batch_bytes_max: Option<usize>,
    /// For logs.
    pub client_name: String,
}

impl SubscribeRequest {
    /// All events of these topics from now on.
    pub fn new(topics: Vec<TopicPattern>) -> Self {
        Self {
            topics,
            filters: Filters::all(),
            replay_from: Point::Latest,
            until: None,
            batch_events_max: None,
            batch_bytes_max: None,
            client_name: String::new(),
        }
    }
}

/// An open subscription.
pub struct Subscription {
    hub: Arc<Inner>,
    id: u64,
    patterns: Vec<TopicPattern>,
    filters: Arc<Filters>,
    until: Option<Point>,
    events_max: usize,
    bytes_max: usize,
    readers: Vec<Reader>,
    /// The readers of topics that are gone, by their index, whose places others may take.
    vacant: Vec<usize>,
    by_partition: FxHashMap<PartitionId, usize>,
    history: SelectAll<BoxStream<'static, (usize, u64, Result<Step>)>>,
    waker: Arc<Waker>,
    /// Live readers that may have something.
    ready: VecDeque<usize>,
    /// What is to be handed out before anything else is read.
    queue: VecDeque<Result<Item>>,
    cursor: Cursor,
    /// Tells of topics that come, change and go.
    changes: watch::Receiver<u64>,
    /// Held by subscriptions with wildcards, so that the catalog looks for the topics of other programs.
    wildcards: Option<Arc<()>>,
    last_item: Instant,
    ended: bool,
}

/// The reader of one partition.
struct Reader {
    id: PartitionId,
    topic: Arc<Topic>,
    /// Counts the streams this reader has had, so that a step of an old one is known as such.
    generation: u64,
    until: Option<End>,
    state: State,
}

enum State {
    /// Reads the log.
    History,
    /// Follows the tail.
    Live(Member),
    /// Has nothing more to read.
    Done,
    /// Was told by the log that the topic was deleted, which the catalog may not know yet.
    Deleted,
}

/// Opens a subscription.
pub(crate) async fn open(hub: Arc<Inner>, request: SubscribeRequest) -> Result<Subscription> {
    let limits = &hub.options.limits;
    if hub.stop.is_cancelled() {
        return Err(Error::new(Code::ShuttingDown, "the hub is stopping; subscribe to another or try again soon"));
    }
    if request.topics.is_empty() || request.topics.len() > limits.subscription_topics {
        let what = format!(
            "{} topics in one subscription; 1 to {} are possible (`limits.subscription_topics`), use wildcards for more",
            request.topics.len(),
            limits.subscription_topics
        );
        return Err(Error::new(Code::InvalidArgument, what).field("topics"));
    }
    let open = hub.open_subscriptions.fetch_add(1, Ordering::AcqRel);
    hub.metrics.subscriptions.inc();
    let mut subscription = Subscription {
        id: hub.next_subscription.fetch_add(1, Ordering::Relaxed),
        patterns: request.topics,
        filters: Arc::new(request.filters),
        until: request.until,
        events_max: request.batch_events_max.unwrap_or(usize::MAX).clamp(1, limits.delivery_events.max(1)),
        bytes_max: request.batch_bytes_max.unwrap_or(usize::MAX).clamp(1, limits.delivery_bytes.max(1)),
        readers: Vec::new(),
        vacant: Vec::new(),
        by_partition: FxHashMap::default(),
        history: SelectAll::new(),
        waker: Waker::new(),
        ready: VecDeque::new(),
        queue: VecDeque::new(),
        cursor: Cursor::default(),
        changes: hub.catalog.changes(),
        wildcards: None,
        last_item: Instant::now(),
        ended: false,
        hub: hub.clone(),
    };
    // From here on dropping the subscription counts it out again.
    if open >= limits.subscriptions {
        return Err(Error::new(
            Code::TooManySubscriptions,
            format!("the hub serves {open} subscriptions already (`limits.subscriptions`); try another hub or later"),
        ));
    }
    subscription.start(&request.replay_from).await?;
    tracing::debug!(
        id = subscription.id,
        client = request.client_name,
        readers = subscription.readers.len(),
        "subscription opened"
    );
    Ok(subscription)
}

impl Subscription {
    /// What a client keeps to resume here.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The next item; `None` after [`Item::Ended`] or an error. It may be dropped at any moment: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Item>> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Some(self.hand_out(item));
            }
            if self.ended {
                return None;
            }
            if self.all_done() {
                self.end(EndReason::Until);
                continue;
            }
            self.ready.extend(self.waker.take_ready());
            if let Some(index) = self.ready.pop_front() {
                self.advance(index);
                continue;
            }
            self.wait().await;
        }
    }

    fn hand_out(&mut self, item: Result<Item>) -> Result<Item> {
        self.last_item = Instant::now();
        match &item {
            Ok(Item::Delivery(delivery)) => {
                self.cursor.set(delivery.partition().clone(), delivery.last_position());
                let live = self.is_live(delivery.partition());
                let Some(&index) = self.by_partition.get(delivery.partition()) else { return item };
                self.readers[index].topic.metrics.count_delivered(delivery.records(), live);
            }
            Ok(Item::Gap { partition, gap, .. }) => self.cursor.set(partition.clone(), gap.resume),
            Ok(Item::Ended { .. }) | Err(_) => self.ended = true,
            Ok(Item::Heartbeat(_)) => {}
        }
        item
    }

    fn is_live(&self, partition: &PartitionId) -> bool {
        let index = self.by_partition.get(partition);
        index.is_some_and(|&index| matches!(self.readers[index].state, State::Live(_)))
    }

    fn all_done(&self) -> bool {
        let fixed = self.wildcards.is_none() || self.until.is_some();
        let done = |reader: &Reader| matches!(reader.state, State::Done | State::Deleted);
        fixed && self.queue.is_empty() && self.readers.iter().all(done)
    }

    /// Waits until there may be something to do. Holds nothing across the wait that dropping it would lose.
    async fn wait(&mut self) {
        let heartbeat = self.last_item + self.hub.options.heartbeat;
        let until = self.readers.iter().filter_map(Reader::until_time).min();
        let stop = self.hub.stop.clone();
        let waker = self.waker.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => self.end(EndReason::Shutdown),
            () = waker.notify.notified() => {}
            Some((index, generation, step)) = self.history.next(), if !self.history.is_empty() => {
                if self.readers[index].generation == generation {
                    self.take_step(index, step);
                }
            }
            Ok(()) = self.changes.changed() => {
                self.follow_topics();
                self.add_new_topics();
            }
            () = clock_reaches(until) => self.finish_at_time(),
            () = tokio::time::sleep_until(heartbeat) => {
                let cursor = self.current_cursor();
                self.queue.push_back(Ok(Item::Heartbeat(cursor)));
            }
        }
    }

    /// The cursor with what was seen and not wanted.
    fn current_cursor(&mut self) -> Cursor {
        for index in 0..self.readers.len() {
            if let State::Live(member) = &mut self.readers[index].state {
                // Nothing is waiting for this subscription here, or it would have been woken.
                if let Some(after) = member.idle_at() {
                    self.cursor.set(self.readers[index].id.clone(), after);
                }
            }
        }
        self.cursor.clone()
    }

    /// Takes what a live reader has.
    fn advance(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        let until = reader.until_time();
        let State::Live(member) = &mut reader.state else { return };
        match member.advance() {
            Found::Batch(batch, selected) => {
                self.deliver(index, &batch, selected, until);
                let ends = |until| batch.records().last().is_some_and(|record| record.stored >= until);
                if until.is_some_and(ends) {
                    // The cursor stays at what was delivered, rather than to follow the tail past the end.
                    self.set_done(index);
                } else {
                    self.ready.push_back(index);
                }
            }
            Found::Gap(gap) => {
                self.ready.push_back(index);
                self.report_gap(index, gap);
            }
            Found::Failed(error) => self.fail(index, error),
            Found::Nothing => {}
            Found::Behind => {
                let after = member.after();
                self.read_history(index, after);
            }
        }
    }

    fn take_step(&mut self, index: usize, step: Result<Step>) {
        match step {
            Ok(Step::Batch(records)) => {
                let topic = &self.readers[index].id.topic;
                let last = records.last().map(|record| record.position);
                let wanted = |event: &_| self.filters.matches(topic, event);
                let selected = (!self.filters.patterns().is_empty()).then(|| {
                    let wanted = records.iter().enumerate().filter(|(_, record)| wanted(&record.event));
                    wanted.map(|(index, _)| index as u32).collect::<Vec<_>>()
                });
                if selected.as_ref().is_some_and(Vec::is_empty) {
                    if let Some(last) = last {
                        self.cursor.set(self.readers[index].id.clone(), last);
                    }
                    return;
                }
                self.deliver(index, &SharedBatch::new(records), selected, None);
            }
            Ok(Step::Gap(gap)) => self.report_gap(index, gap),
            Ok(Step::Live(member)) => {
                self.hub.metrics.reading_history.dec();
                self.readers[index].state = State::Live(member);
                self.ready.push_back(index);
            }
            Ok(Step::Done) => {
                self.hub.metrics.reading_history.dec();
                self.readers[index].state = State::Done;
            }
            Err(error) => self.fail(index, error),
        }
    }

    /// Queues the wanted events of a batch, in pieces of at most the wanted size.
    fn deliver(
        &mut self,
        index: usize,
        batch: &Arc<SharedBatch>,
        selected: Option<Vec<u32>>,
        until: Option<Timestamp>,
    ) {
        let id = self.readers[index].id.clone();
        // Nothing of another partition is queued, so that the cursor of the others is as it will be handed out.
        let rest: Arc<str> = self.cursor.text_without(&id).into();
        let selection = Selection::new(batch, selected).before(batch, until);
        for part in selection.split(batch, self.events_max, self.bytes_max) {
            self.queue.push_back(Ok(Item::Delivery(Delivery::new(id.clone(), batch.clone(), part, rest.clone()))));
        }
    }

    fn report_gap(&mut self, index: usize, gap: Gap) {
        let reader = &self.readers[index];
        reader.topic.metrics.count_gap(&gap);
        let mut cursor = self.cursor.clone();
        cursor.set(reader.id.clone(), gap.resume);
        self.queue.push_back(Ok(Item::Gap { partition: reader.id.clone(), gap, cursor }));
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.set_done(index);
        match error.code() {
            Code::ShuttingDown => self.end(EndReason::Shutdown),
            // It is dropped when the catalog knows it as well, which would bring it back before.
            Code::TopicNotFound if self.wildcards.is_some() => self.readers[index].state = State::Deleted,
            Code::TopicNotFound => self.end(EndReason::TopicDeleted),
            _ => self.queue.push_back(Err(error.topic(self.readers[index].id.topic.as_str()))),
        }
    }

    fn end(&mut self, reason: EndReason) {
        let cursor = self.current_cursor();
        self.queue.push_back(Ok(Item::Ended { cursor, reason }));
    }

    fn set_done(&mut self, index: usize) {
        let reader = &mut self.readers[index];
        if matches!(reader.state, State::History) {
            self.hub.metrics.reading_history.dec();
        }
        reader.generation += 1;
        reader.state = State::Done;
    }
}

/// Starting, and following topics that come and go.
impl Subscription {
    async fn start(&mut self, from: &Point) -> Result<()> {
        let mut names: Vec<TopicName> = Vec::new();
        if self.patterns.iter().any(|pattern| matches!(pattern, TopicPattern::Wildcard(_))) {
            self.wildcards = Some(self.hub.catalog.wildcard_interest());
            self.hub.catalog.discover().await?;
            names.extend(self.hub.catalog.names().into_iter().filter(|name| self.wants(name)));
        }
        for pattern in &self.patterns {
            if let TopicPattern::Name(name) = pattern
                && !names.contains(name)
            {
                names.push(name.clone());
            }
        }
        let mut topics = Vec::new();
        for name in names {
            topics.push(self.hub.catalog.for_read(&name).await?);
        }
        let single = self.wildcards.is_none() && topics.len() == 1 && topics[0].settings.partitions == 1;
        resolve::check(from, single, "replay_from")?;
        if let Some(until) = &self.until {
            resolve::check(until, single, "until")?;
        }
        for topic in topics {
            self.add_topic(topic, from).await?;
        }
        Ok(())
    }

    fn wants(&self, name: &TopicName) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }

    async fn add_topic(&mut self, topic: Arc<Topic>, from: &Point) -> Result<()> {
        for id in topic.partition_ids().collect::<Vec<_>>() {
            if self.by_partition.contains_key(&id) {
                continue;
            }
            let log = self.hub.catalog.partition(&topic, id.partition).await?.log;
            let failed = |error: Error| error.topic(id.topic.as_str());
            let after = resolve::start(from, &id, log.as_ref()).await.map_err(failed)?;
            let until = match &self.until {
                Some(until) => Some(resolve::end(until, &id, log.as_ref()).await.map_err(failed)?),
                None => None,
            };
            self.add_reader(topic.clone(), id, after, until);
        }
        Ok(())
    }

    fn add_reader(&mut self, topic: Arc<Topic>, id: PartitionId, after: Position, until: Option<End>) {
        let index = self.vacant.pop().unwrap_or(self.readers.len());
        self.by_partition.insert(id.clone(), index);
        let mut reader = Reader { id, topic, generation: 0, until, state: State::Done };
        match self.readers.get_mut(index) {
            Some(vacant) => {
                // What its streams still yield is known as old.
                reader.generation = vacant.generation;
                *vacant = reader;
            }
            None => self.readers.push(reader),
        }
        self.read_history(index, after);
    }

    /// Reads the log of this partition from here on, until the tail is reached.
    fn read_history(&mut self, index: usize, after: Position) {
        let reader = &mut self.readers[index];
        reader.generation += 1;
        if !matches!(reader.state, State::History) {
            self.hub.metrics.reading_history.inc();
        }
        // Leaves the tail, if it followed that.
        reader.state = State::History;
        self.cursor.set(reader.id.clone(), after);
        let seat = (self.id, self.waker.clone(), index);
        let source = history::Source {
            hub: self.hub.clone(),
            topic: reader.topic.clone(),
            partition: reader.id.partition,
            filters: self.filters.clone(),
            seat,
        };
        let generation = reader.generation;
        let steps = history::read(source, after, reader.until).map(move |step| (index, generation, step));
        self.history.push(Box::pin(steps));
    }

    /// New topics that a wildcard includes are read from their start: they came after the subscription.
    fn add_new_topics(&mut self) {
        if self.until.is_some() || self.wildcards.is_none() {
            return;
        }
        for name in self.hub.catalog.names() {
            if !self.wants(&name) {
                continue;
            }
            let topic = self.hub.catalog.known(&name);
            for id in topic.partition_ids().collect::<Vec<_>>() {
                if !self.by_partition.contains_key(&id) {
                    self.add_reader(topic.clone(), id, Position::START, None);
                }
            }
        }
    }

    /// Topics that were deleted end; those that were declared are read with the settings that they have now.
    fn follow_topics(&mut self) {
        for index in 0..self.readers.len() {
            let reader = &self.readers[index];
            let Some(fate) = reader.topic.fate() else { continue };
            match (&reader.state, fate, self.hub.catalog.current(&reader.id.topic)) {
                (State::Done, ..) => {}
                (State::History | State::Live(_), Fate::Declared, Some(topic)) => self.read_anew(index, topic),
                _ => self.drop_deleted(index),
            }
        }
    }

    fn read_anew(&mut self, index: usize, topic: Arc<Topic>) {
        let reader = &mut self.readers[index];
        let after = match &reader.state {
            State::Live(member) => member.after(),
            _ => self.cursor.get(&reader.id).unwrap_or(Position::START),
        };
        reader.topic = topic.clone();
        self.read_history(index, after);
        for id in topic.partition_ids().collect::<Vec<_>>() {
            if !self.by_partition.contains_key(&id) && self.until.is_none() {
                self.add_reader(topic.clone(), id, Position::START, None);
            }
        }
    }

    fn drop_deleted(&mut self, index: usize) {
        self.set_done(index);
        self.vacant.push(index);
        let id = self.readers[index].id.clone();
        self.by_partition.remove(&id);
        self.cursor.remove(&id);
        if self.wildcards.is_none() {
            self.end(EndReason::TopicDeleted);
        }
    }

    /// The moment of `until` has come: what was stored before it is still delivered.
    fn finish_at_time(&mut self) {
        let now = Timestamp::now();
        for index in 0..self.readers.len() {
            let reader = &self.readers[index];
            if let State::Live(member) = &reader.state
                && reader.until_time().is_some_and(|until| until <= now)
            {
                let after = member.after();
                self.read_history(index, after);
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.open_subscriptions.fetch_sub(1, Ordering::AcqRel);
        self.hub.metrics.subscriptions.dec();
        let reading = self.readers.iter().filter(|reader| matches!(reader.state, State::History)).count();
        self.hub.metrics.reading_history.dec_by(reading as i64);
    }
}

impl Reader {
    /// When this reader ends, if it follows the tail until then.
    fn until_time(&self) -> Option<Timestamp> {
        match (&self.state, self.until) {
            (State::Live(_), Some(End::Time(until))) => Some(until),
            _ => None,
        }
    }
}

async fn clock_reaches(time: Option<Timestamp>) {
    let Some(time) = time else { return std::future::pending().await };
    let wait = time.as_nanos().saturating_sub(Timestamp::now().as_nanos()).max(0);
    tokio::time::sleep(std::time::Duration::from_nanos(wait as u64)).await;
}
