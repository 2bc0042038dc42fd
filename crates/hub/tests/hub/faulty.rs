//! The memory backend with faults that a test switches on.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use synapse_hub_core::{
    Code, Durability, Error, PartitionId, Position, Result, Timestamp, TopicName, TopicSettings,
    backend::{
        Append, Backend, Bounds, Capabilities, Commit, EventLog, Guarantee, Health, ReadItem, ReadLimits, Trim, Trimmed,
    },
    meta::{Change, Document, Expected, MetaStore},
};
use synapse_hub_memory::Memory;
use tokio::sync::watch;

const CHANGES_PAUSE: Duration = Duration::from_millis(30);

/// What a read yields.
pub(crate) type Items = BoxStream<'static, Result<ReadItem>>;

/// A memory backend with faults. Clones share both.
#[derive(Clone, Default)]
pub(crate) struct Faulty {
    pub(crate) memory: Memory,
    pub(crate) faults: Arc<Faults>,
}

/// The faults, all off at first.
#[derive(Default)]
pub(crate) struct Faults {
    /// Partitions cannot be opened nor asked.
    pub(crate) away: AtomicBool,
    /// Topics with names that start with this cannot be trimmed.
    pub(crate) untrimmable: Mutex<Option<&'static str>>,
    /// How long the deletion of a topic still takes when its events are gone.
    pub(crate) deletion_takes: Mutex<Duration>,
    /// While this is so, nobody is told of changed documents. They are told one by one, with a pause before each.
    pub(crate) changes_held: watch::Sender<bool>,
    /// Stands between the log and the next tail that is started.
    #[allow(clippy::type_complexity)]
    pub(crate) next_tail: Mutex<Option<Box<dyn FnOnce(Items) -> Items + Send>>>,
    opened: Mutex<Vec<Weak<FaultyLog>>>,
}

impl Faults {
    /// How many of the partitions that were opened are still held.
    pub(crate) fn partitions_held(&self) -> usize {
        self.opened.lock().iter().filter(|log| log.strong_count() > 0).count()
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn reach(&self) -> Result<()> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(Code::BackendUnavailable, "the backend is away"));
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Faulty {
    fn name(&self) -> &'static str {
        self.memory.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    async fn guarantee(&self, durability: Durability) -> Result<Guarantee> {
        self.memory.guarantee(durability).await
    }

    async fn create_topic(&self, name: &TopicName, settings: &TopicSettings) -> Result<()> {
        self.memory.create_topic(name, settings).await
    }

    async fn delete_topic(&self, name: &TopicName, settings: &TopicSettings) -> Result<()> {
        self.memory.delete_topic(name, settings).await?;
        let pause = *self.faults.deletion_takes.lock();
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn list_topics(&self) -> Result<Vec<TopicName>> {
        self.memory.list_topics().await
    }

    async fn open(&self, partition: &PartitionId, settings: &TopicSettings) -> Result<Arc<dyn EventLog>> {
        self.faults.reach()?;
        let inner = self.memory.open(partition, settings).await?;
        let log = Arc::new(FaultyLog { topic: partition.topic.clone(), inner, faults: self.faults.clone() });
        self.faults.opened.lock().push(Arc::downgrade(&log));
        Ok(log)
    }

    fn meta(&self) -> Arc<dyn MetaStore> {
        Arc::new(FaultyMeta { inner: self.memory.meta(), held: self.faults.changes_held.subscribe() })
    }

    async fn health(&self) -> Health {
        self.memory.health().await
    }

    async fn shutdown(&self, deadline: Duration) {
        self.memory.shutdown(deadline).await;
    }
}

struct FaultyLog {
    topic: TopicName,
    inner: Arc<dyn EventLog>,
    faults: Arc<Faults>,
}

#[async_trait]
impl EventLog for FaultyLog {
    async fn append(&self, batch: Append) -> Result<Commit> {
        self.inner.append(batch).await
    }

    fn read(&self, after: Position, until: Option<Position>, limits: ReadLimits) -> Items {
        let items = self.inner.read(after, until, limits);
        // Only tails read without an end.
        match self.faults.next_tail.lock().take_if(|_| until.is_none()) {
            Some(between) => between(items),
            None => items,
        }
    }

    async fn bounds(&self) -> Result<Bounds> {
        self.faults.reach()?;
        self.inner.bounds().await
    }

    async fn find(&self, time: Timestamp) -> Result<Position> {
        self.faults.reach()?;
        self.inner.find(time).await
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed> {
        let untrimmable = *self.faults.untrimmable.lock();
        if untrimmable.is_some_and(|start| self.topic.as_str().starts_with(start)) {
            return Err(Error::new(Code::BackendWrongType, "this topic cannot be trimmed"));
        }
        self.inner.trim(trim).await
    }
}

struct FaultyMeta {
    inner: Arc<dyn MetaStore>,
    held: watch::Receiver<bool>,
}

#[async_trait]
impl MetaStore for FaultyMeta {
    async fn get(&self, key: &str) -> Result<Option<Document>> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Document>> {
        self.inner.list(prefix).await
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected) -> Result<u64> {
        self.inner.put(key, value, expected).await
    }

    async fn delete(&self, key: &str, expected: Expected) -> Result<bool> {
        self.inner.delete(key, expected).await
    }

    async fn lease(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        self.inner.lease(key, holder, ttl).await
    }

    async fn release(&self, key: &str, holder: &str) -> Result<()> {
        self.inner.release(key, holder).await
    }

    async fn revision(&self) -> Result<u64> {
        self.inner.revision().await
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Change>> {
        let held = self.held.clone();
        let changes = self.inner.watch(prefix, after).then(move |change| {
            let mut held = held.clone();
            async move {
                tokio::time::sleep(CHANGES_PAUSE).await;
                // The sender is gone only when the test is over.
                let _ = held.wait_for(|held| !held).await;
                change
            }
        });
        changes.boxed()
    }
}
