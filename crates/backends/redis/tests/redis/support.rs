//! What the tests are written with.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use futures::{StreamExt as _, stream::BoxStream};
use synapse_hub_core::{
    Error, Event, PartitionId, Position, Result, Timestamp, TopicName, TopicSettings,
    backend::{Append, Appended, Backend, EventLog, Gap, ProducerBatch, ReadItem, ReadLimits, Record},
};
use synapse_hub_redis::{RedisBackend, RedisOptions};

/// The longest that anything may take before it counts as hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Options with short times, so that tests of what goes wrong are short.
pub(crate) fn options() -> RedisOptions {
    RedisOptions {
        response_timeout: Duration::from_secs(2),
        check_active: Duration::from_millis(50),
        check_idle: Duration::from_millis(100),
        ..RedisOptions::default()
    }
}

pub(crate) async fn connect(url: &str) -> RedisBackend {
    RedisBackend::connect(url, options()).await.expect("it does not connect")
}

pub(crate) async fn connect_error(url: &str) -> Error {
    let options = RedisOptions { connect_timeout: Duration::from_millis(300), ..options() };
    RedisBackend::connect(url, options).await.err().expect("it connects")
}

pub(crate) fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

pub(crate) async fn open(backend: &RedisBackend, name: &str) -> Arc<dyn EventLog> {
    open_with(backend, name, &TopicSettings::default()).await
}

pub(crate) async fn open_with(backend: &RedisBackend, name: &str, settings: &TopicSettings) -> Arc<dyn EventLog> {
    backend.open(&PartitionId::new(topic(name), 0), settings).await.unwrap()
}

/// An event that can be told from others by its number.
pub(crate) fn event(number: usize) -> Event {
    let mut event = Event::new("tick", format!(r#"{{"n":{number},"text":"one of many"}}"#));
    event.set_id(number.to_string()).set_source("test").set_time(Timestamp::from_millis(1_735_689_600_000));
    event
}

pub(crate) fn batch(numbers: std::ops::Range<usize>) -> Append {
    Append::new(numbers.map(event).collect())
}

pub(crate) fn produced(numbers: std::ops::Range<usize>, producer: &str, sequence: u64) -> Append {
    Append { producer: Some(ProducerBatch { id: producer.to_owned().into(), sequence }), ..batch(numbers) }
}

pub(crate) async fn store(log: &Arc<dyn EventLog>, append: Append) -> Result<Appended> {
    within(async { log.append(append).await?.await }).await
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

pub(crate) type Items = BoxStream<'static, Result<ReadItem>>;

pub(crate) fn tail(log: &Arc<dyn EventLog>, after: Position) -> Items {
    log.read(after, None, ReadLimits::default())
}

pub(crate) async fn next(items: &mut Items) -> Result<ReadItem> {
    within(items.next()).await.expect("the stream ended")
}

/// The next events, so many, with no gap among them.
pub(crate) async fn take(items: &mut Items, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        match next(items).await.unwrap() {
            ReadItem::Batch(batch) => records.extend(batch),
            ReadItem::Gap(gap) => panic!("after {} of {count} events came {gap:?}", records.len()),
        }
    }
    assert_eq!(records.len(), count);
    records
}

pub(crate) async fn take_gap(items: &mut Items) -> Gap {
    match next(items).await.unwrap() {
        ReadItem::Gap(gap) => gap,
        ReadItem::Batch(records) => panic!("instead of a gap came {records:?}"),
    }
}

/// Everything that the log holds now.
pub(crate) async fn contents(log: &Arc<dyn EventLog>) -> Vec<Record> {
    let bounds = within(log.bounds()).await.unwrap();
    let mut items = log.read(Position::START, Some(bounds.end), ReadLimits::default());
    let mut records = Vec::new();
    while let Some(item) = within(items.next()).await {
        match item.unwrap() {
            ReadItem::Batch(batch) => records.extend(batch),
            ReadItem::Gap(gap) => panic!("nothing is gone, and yet came {gap:?}"),
        }
    }
    records
}

pub(crate) fn ids(records: &[Record]) -> Vec<usize> {
    records.iter().map(|record| record.event.id().parse().unwrap()).collect()
}

/// What was logged, by all tests of this process.
pub(crate) struct Logs(Mutex<Vec<String>>);

static LOGS: OnceLock<&'static Logs> = OnceLock::new();

/// Collects what is logged from now on.
pub(crate) fn captured_logs() -> &'static Logs {
    LOGS.get_or_init(|| {
        let logs: &'static Logs = Box::leak(Box::new(Logs(Mutex::default())));
        let subscriber = tracing_subscriber::fmt().with_writer(move || logs).with_ansi(false);
        subscriber.with_max_level(tracing::Level::INFO).init();
        logs
    })
}

impl Logs {
    /// How many lines about the server at this port have this text.
    pub(crate) fn about(&self, port: u16, text: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(&format!(":{port}/")) && line.contains(text)).count()
    }
}

impl std::io::Write for &'static Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
