//! The embedded backend: an event log in a local folder, for one hub.
//!
//! Batches are stored as they are, one value a batch, in fjall. One thread writes (`writer.rs`); readers of the latest
//! events get them from memory, all others read the log in chunks.
//!
//! What an acknowledgement means: `memory` — in the engine's memory; `stored` — handed to the operating system, and so
//! safe from the death of this process; `synced` — on the disk.

mod group;
mod jobs;
mod keys;
mod log;
mod look;
mod meta;
mod options;
mod partition;
mod producers;
mod store;
mod writer;

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use fjall::PersistMode;
use parking_lot::Mutex;
use synapse_hub_core::{
    Code, Durability, Error, Layout, PartitionId, Result, Timestamp, TopicName, TopicSettings,
    backend::{Backend, Capabilities, EventLog, GapCounts, Guarantee, Health, Sharing, Survival},
    meta::MetaStore,
};
use tokio::sync::{Semaphore, oneshot, watch};

pub use options::EmbeddedOptions;

use crate::{
    keys::{DELETED, FIRST_NAME, LATEST_ID, PartitionState, deleted_key, partition_key, word},
    log::{Log, Queue},
    meta::Meta,
    partition::{Partition, Partitions},
    store::{Engine, Store, failed},
    writer::{Command, Writer},
};

/// An embedded log.
pub struct Embedded {
    store: Arc<Store>,
    queue: Queue,
    meta: Arc<Meta>,
    partitions: Partitions,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the log in this folder, which is made when it does not exist. Blocks on the disk.
    ///
    /// # Errors
    /// `storage_locked` when another hub has it open, `storage_full`, `storage_corrupt`, `invalid_config`.
    pub fn open(folder: &Path, options: EmbeddedOptions) -> Result<Self> {
        let room = Arc::new(Semaphore::new(options.append_bytes_max.min(Semaphore::MAX_PERMITS)));
        let store = Arc::new(Store::open(folder, options)?);
        let stop = watch::Sender::new(false);
        let meta = Arc::new(Meta::open(store.clone(), stop.clone())?);
        let partitions = Partitions::default();
        let deleted_topics = deleted_topics(&*store.engine()?)?;
        let writer = Writer::new(store.clone(), partitions.clone(), deleted_topics);
        let (commands, requests) = mpsc::channel();
        let thread = std::thread::Builder::new().name("synapse-log".into()).spawn(move || writer.run(&requests));
        let thread = thread.map_err(|error| Error::new(Code::Internal, format!("cannot start the writer: {error}")))?;
        let queue = Queue { commands, room, stop };
        Ok(Self { store, queue, meta, partitions, writer: Mutex::new(Some(thread)) })
    }

    fn open_partition(&self, id: &PartitionId) -> Result<Arc<Partition>> {
        // The lock keeps two callers from giving two ids.
        let mut partitions = self.partitions.lock();
        if let Some(partition) = partitions.get(id) {
            return Ok(partition.clone());
        }
        let engine = self.store.engine()?;
        let topic = topic_id(&engine, &id.topic)?;
        let partition = Arc::new(Partition::open(&engine, id.clone(), partition_key(topic, id.partition))?);
        partitions.insert(id.clone(), partition.clone());
        Ok(partition)
    }
}

/// The id of a topic, which is given when it has none.
fn topic_id(engine: &Engine, name: &TopicName) -> Result<u64> {
    let get = |key: &[u8]| Ok(engine.catalog.get(key).map_err(failed)?.and_then(|id| word(&id, 0)));
    if let Some(id) = get(name.as_str().as_bytes())? {
        return Ok(id);
    }
    let id = get(LATEST_ID)?.unwrap_or(0) + 1;
    let mut batch = engine.database.batch();
    batch.insert(&engine.catalog, name.as_str(), id.to_be_bytes().as_slice());
    batch.insert(&engine.catalog, LATEST_ID, id.to_be_bytes().as_slice());
    engine.commit(batch, Some(PersistMode::Buffer))?;
    Ok(id)
}

/// The topics whose data a hub that stopped had not removed yet.
fn deleted_topics(engine: &Engine) -> Result<Vec<u64>> {
    let keys = engine.catalog.prefix(DELETED).map(|guard| guard.key().map_err(failed));
    keys.map(|key| Ok(word(&key?, DELETED.len()).unwrap_or_default())).collect()
}

/// Whether a topic holds or held events.
fn was_used(engine: &Engine, topic: u64) -> bool {
    engine.state.prefix(topic.to_be_bytes()).any(|guard| {
        let state = guard.into_inner().ok().and_then(|(_, value)| PartitionState::decode(&value));
        state.is_some_and(|state| state.last > 0)
    })
}

#[async_trait]
impl Backend for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            survives: Survival::HubCrash,
            // Batches are always packed; a topic that asks for `flat` loses nothing, since nobody else reads the files.
            layouts: &[Layout::Flat, Layout::Packed],
            sharing: Sharing::Exclusive,
            gap_counts: GapCounts::BestEffort,
            event_bytes_max: self.store.options.event_bytes_max,
            find_precision: Duration::ZERO,
        }
    }

    async fn guarantee(&self, durability: Durability) -> Result<Guarantee> {
        let text = match durability {
            Durability::Memory => "embedded: in memory",
            Durability::Stored => "embedded: written to the operating system, survives the hub",
            Durability::Synced => "embedded: fsync",
        };
        Ok(Guarantee { level: durability, text: text.into() })
    }

    async fn create_topic(&self, name: &TopicName, _settings: &TopicSettings) -> Result<()> {
        let _partitions = self.partitions.lock();
        topic_id(&*self.store.engine()?, name).map(drop)
    }

    async fn delete_topic(&self, name: &TopicName, _settings: &TopicSettings) -> Result<()> {
        let topic = {
            let mut partitions = self.partitions.lock();
            let engine = self.store.engine()?;
            let Some(id) = engine.catalog.get(name.as_str()).map_err(failed)? else { return Ok(()) };
            let topic = word(&id, 0).unwrap_or_default();
            // The name gets another id when it comes again, so that late writes to the old one are nobody's.
            let mut batch = engine.database.batch();
            batch.remove(&engine.catalog, name.as_str());
            batch.insert(&engine.catalog, deleted_key(topic), []);
            engine.commit(batch, Some(PersistMode::Buffer))?;
            partitions.retain(|id, partition| {
                if id.topic == *name {
                    partition.delete();
                }
                id.topic != *name
            });
            topic
        };
        self.queue.commands.send(Command::Purge(topic)).map_err(|_| log::stopping())
    }

    async fn list_topics(&self) -> Result<Vec<TopicName>> {
        let engine = self.store.engine()?;
        let mut names = Vec::new();
        for guard in engine.catalog.range(FIRST_NAME..) {
            let (key, id) = guard.into_inner().map_err(failed)?;
            let Some(Ok(name)) = std::str::from_utf8(&key).ok().map(str::parse) else { continue };
            if was_used(&engine, word(&id, 0).unwrap_or_default()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    async fn open(&self, partition: &PartitionId, _settings: &TopicSettings) -> Result<Arc<dyn EventLog>> {
        let partition = self.open_partition(partition)?;
        Ok(Arc::new(Log { partition, store: self.store.clone(), queue: self.queue.clone() }))
    }

    fn meta(&self) -> Arc<dyn MetaStore> {
        self.meta.clone()
    }

    async fn health(&self) -> Health {
        let room = self.store.has_room();
        let engine = self.store.engine();
        let (open, failed) = (engine.is_ok(), engine.is_ok_and(|engine| engine.has_failed()));
        let mut notes = Vec::new();
        if !room {
            notes.push(format!(
                "the disk under {} is full: {} MiB are free, {} MiB are needed",
                self.store.folder().display(),
                self.store.free_bytes().unwrap_or(0) >> 20,
                self.store.options.free_bytes_min >> 20
            ));
        }
        if !open || failed {
            notes.push("the log is being opened again after a failed write".into());
        }
        Health {
            readable: open,
            writable: open && room && !failed,
            time: Some(Timestamp::now()),
            notes,
            ..Health::default()
        }
    }

    async fn shutdown(&self, deadline: Duration) {
        // What was accepted stands before this in the queue, and is written first.
        let (reply, stopped) = oneshot::channel();
        let asked = self.queue.commands.send(Command::Stop(reply)).is_ok();
        self.queue.stop.send_replace(true);
        if asked && tokio::time::timeout(deadline, stopped).await.is_err() {
            tracing::error!("the embedded log was not closed within the deadline");
            return;
        }
        self.queue.room.close();
        if let Some(thread) = self.writer.lock().take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}
