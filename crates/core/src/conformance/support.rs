//! What the promises are written with.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

use super::{Harness, PATIENCE};
use crate::{
    Code, Event, PartitionId, Position, Result, Timestamp, TopicName, TopicSettings,
    backend::{Append, Appended, Backend, Bounds, EventLog, Gap, ReadItem, ReadLimits, Record, Survival, Trim},
    meta::MetaStore,
};

/// A backend with a harness around it.
pub(super) struct Fixture<H> {
    pub(super) harness: H,
    /// Absent only while one hub makes room for the next.
    backend: Option<Arc<dyn Backend>>,
    pub(super) settings: TopicSettings,
}

/// How a hub ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Shutdown,
    Crash,
}

impl<H: Harness> Fixture<H> {
    pub(super) async fn new() -> Self {
        let harness = within("starting", H::start()).await;
        let backend = within("opening", harness.open()).await.expect("the backend does not open");
        let settings = harness.settings();
        Self { harness, backend: Some(backend), settings }
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        self.backend.as_deref().expect("no hub is open")
    }

    /// The topic's only partition.
    pub(super) async fn log(&self, topic: &str) -> Arc<dyn EventLog> {
        self.partition(topic, 0).await
    }

    pub(super) async fn partition(&self, topic: &str, partition: u32) -> Arc<dyn EventLog> {
        open_log(self.backend(), topic, partition, &self.settings).await
    }

    pub(super) fn meta(&self) -> Arc<dyn MetaStore> {
        self.backend().meta()
    }

    /// Whether data survives such an end.
    pub(super) fn survives(&self) -> bool {
        self.backend().capabilities().survives >= Survival::HubCrash
    }

    /// Ends the hub and opens another on the same data.
    pub(super) async fn reopen(&mut self, end: End) {
        let backend = self.backend.take().expect("no hub is open");
        match end {
            End::Shutdown => {
                within("shutdown", backend.shutdown(PATIENCE / 2)).await;
                drop(backend);
            }
            End::Crash => within("crashing", self.harness.crash(backend)).await,
        }
        self.backend = Some(within("opening", self.harness.open()).await.expect("the backend does not open again"));
    }

    /// A second hub on the same data, where several may use it.
    pub(super) async fn second_hub(&self) -> Option<Arc<dyn Backend>> {
        if self.backend().capabilities().sharing != crate::backend::Sharing::Shared {
            return None;
        }
        let second = within("opening a second hub", self.harness.second_hub()).await;
        Some(second.expect("a shared backend has a second hub").expect("the second hub does not open"))
    }
}

pub(super) async fn open_log(
    backend: &dyn Backend,
    topic: &str,
    partition: u32,
    settings: &TopicSettings,
) -> Arc<dyn EventLog> {
    within("opening a partition", backend.open(&PartitionId::new(name(topic), partition), settings)).await.unwrap()
}

/// Waits, but not for ever.
pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} hangs"),
    }
}

pub(super) fn name(text: &str) -> TopicName {
    text.parse().unwrap()
}

/// An event that can be told from others by its number.
pub(super) fn event(number: usize) -> Event {
    let mut event = Event::new("tick", format!(r#"{{"n":{number}}}"#));
    event.set_id(format!("e{number}")).set_source("conformance").set_time(Timestamp::from_millis(1_735_689_600_000));
    event
}

pub(super) fn events(numbers: impl IntoIterator<Item = usize>) -> Vec<Event> {
    numbers.into_iter().map(event).collect()
}

pub(super) fn number(event: &Event) -> usize {
    event.id().strip_prefix('e').and_then(|digits| digits.parse().ok()).expect("not an event of the suite")
}

pub(super) fn numbers(records: &[Record]) -> Vec<usize> {
    records.iter().map(|record| number(&record.event)).collect()
}

pub(super) fn positions(records: &[Record]) -> Vec<Position> {
    records.iter().map(|record| record.position).collect()
}

/// An event of about this many bytes.
pub(super) fn event_of_size(number: usize, bytes: usize) -> Event {
    let mut event = event(number);
    event.set_data(Bytes::from(format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes))));
    event
}

pub(super) async fn store(log: &dyn EventLog, append: Append) -> Result<Appended> {
    let commit = within("append", log.append(append)).await?;
    within("a commit", commit).await
}

pub(super) async fn append(log: &dyn EventLog, numbers: impl IntoIterator<Item = usize>) -> Vec<Position> {
    store(log, Append::new(events(numbers))).await.expect("append failed").positions
}

pub(super) async fn bounds(log: &dyn EventLog) -> Bounds {
    within("bounds", log.bounds()).await.expect("bounds failed")
}

pub(super) async fn trim(log: &dyn EventLog, trim: Trim) -> Option<u64> {
    within("trim", log.trim(trim)).await.expect("trim failed").removed
}

pub(super) async fn next<S>(stream: &mut S) -> Option<Result<ReadItem>>
where
    S: Stream<Item = Result<ReadItem>> + Unpin,
{
    within("a read", stream.next()).await
}

/// The next events, at least so many, with no gap among them.
pub(super) async fn take<S>(stream: &mut S, at_least: usize) -> Vec<Record>
where
    S: Stream<Item = Result<ReadItem>> + Unpin,
{
    let mut records = Vec::new();
    while records.len() < at_least {
        match next(stream).await {
            Some(Ok(ReadItem::Batch(batch))) => {
                assert!(!batch.is_empty(), "an empty batch was yielded");
                records.extend(batch);
            }
            other => panic!("after {} of {at_least} events came {other:?}", records.len()),
        }
    }
    records
}

/// The next item, which is a gap.
pub(super) async fn take_gap<S>(stream: &mut S) -> Gap
where
    S: Stream<Item = Result<ReadItem>> + Unpin,
{
    match next(stream).await {
        Some(Ok(ReadItem::Gap(gap))) => gap,
        other => panic!("instead of a gap came {other:?}"),
    }
}

/// All items between two positions.
pub(super) async fn items(log: &dyn EventLog, after: Position, until: Position) -> Vec<ReadItem> {
    let mut stream = log.read(after, Some(until), ReadLimits::default());
    let mut items = Vec::new();
    while let Some(item) = next(&mut stream).await {
        items.push(item.expect("reading failed"));
    }
    items
}

/// All events between two positions, with no gap among them.
pub(super) async fn records(log: &dyn EventLog, after: Position, until: Position) -> Vec<Record> {
    let mut records = Vec::new();
    for item in items(log, after, until).await {
        match item {
            ReadItem::Batch(batch) => {
                assert!(!batch.is_empty(), "an empty batch was yielded");
                records.extend(batch);
            }
            ReadItem::Gap(gap) => panic!("nothing is gone, and yet came {gap:?}"),
        }
    }
    assert_increasing(&records);
    records
}

/// Everything that the log holds. A gap at its start is allowed.
pub(super) async fn contents(log: &dyn EventLog) -> Vec<Record> {
    let bounds = bounds(log).await;
    match bounds.earliest {
        Some(earliest) => records(log, earliest.before(), bounds.end).await,
        None => Vec::new(),
    }
}

pub(super) fn assert_increasing(records: &[Record]) {
    for pair in records.windows(2) {
        assert!(pair[0].position < pair[1].position, "{} is followed by {}", pair[0].position, pair[1].position);
    }
}

pub(super) fn assert_code<T: std::fmt::Debug>(result: Result<T>, code: Code) {
    match result {
        Err(error) => assert_eq!(error.code(), code, "{error}"),
        Ok(done) => panic!("instead of {code:?} came {done:?}"),
    }
}
