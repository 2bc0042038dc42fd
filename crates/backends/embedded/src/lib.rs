//! The embedded backend: an event log in a local folder, for one hub.
//!
//! Batches are stored as they are, one value a batch, in fjall. One thread writes ([`writer`]); readers of the latest
//! events get them from memory, all others read the log in chunks.
//!
//! What an acknowledgement means: `memory` — in the engine's memory; `stored` — handed to the operating system, and so
//! safe from the death of this process; `synced` — on the disk.

mod log;
mod meta;
mod options;
mod partition;
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
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Durability, Error, Layout, PartitionId, Result, Timestamp, TopicName, TopicSettings,
    backend::{Backend, Capabilities, EventLog, GapCounts, Guarantee, Health, Sharing, Survival},
    meta::MetaStore,
};
use tokio::sync::{Semaphore, oneshot, watch};

pub use options::EmbeddedOptions;

use crate::{
    log::{Log, Queue},
    meta::Meta,
    partition::Partition,
    store::{PartitionState, Store, failed, partition_key},
    writer::{Command, Writer},
};

/// The key in `catalog` that holds the latest topic id.
const LATEST_ID: &[u8] = b"\0latest";

/// An embedded log.
pub struct Embedded {
    store: Arc<Store>,
    queue: Queue,
    meta: Arc<Meta>,
    open: Mutex<FxHashMap<PartitionId, Arc<Partition>>>,
    /// The same partitions, for the writer.
    opened: Arc<Mutex<Vec<Arc<Partition>>>>,
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
        let (commands, requests) = mpsc::channel();
        let opened = Arc::new(Mutex::new(Vec::new()));
        let writer = Writer::new(store.clone(), opened.clone());
        let thread = std::thread::Builder::new().name("synapse-log".into()).spawn(move || writer.run(&requests));
        let thread = thread.map_err(|error| Error::new(Code::Internal, format!("cannot start the writer: {error}")))?;
        Ok(Self {
            store,
            queue: Queue { commands, room, stop },
            meta,
            open: Mutex::default(),
            opened,
            writer: Mutex::new(Some(thread)),
        })
    }

    /// The id of a topic, which is given when it has none.
    fn topic_id(&self, name: &TopicName) -> Result<u64> {
        // The lock keeps two callers from giving two ids.
        let _open = self.open.lock();
        let engine = self.store.engine()?;
        if let Some(id) = engine.catalog.get(name.as_str()).map_err(failed)? {
            return Ok(word(&id));
        }
        let id = engine.catalog.get(LATEST_ID).map_err(failed)?.map_or(0, |id| word(&id)) + 1;
        let mut batch = engine.database.batch();
        batch.insert(&engine.catalog, name.as_str(), id.to_be_bytes().as_slice());
        batch.insert(&engine.catalog, LATEST_ID, id.to_be_bytes().as_slice());
        batch.durability(Some(PersistMode::Buffer)).commit().map_err(failed)?;
        Ok(id)
    }

    fn open_partition(&self, id: &PartitionId) -> Result<Arc<Partition>> {
        if let Some(partition) = self.open.lock().get(id) {
            return Ok(partition.clone());
        }
        let topic = self.topic_id(&id.topic)?;
        let mut open = self.open.lock();
        if let Some(partition) = open.get(id) {
            return Ok(partition.clone());
        }
        let engine = self.store.engine()?;
        let partition = Arc::new(Partition::open(&engine, id.clone(), partition_key(topic, id.partition))?);
        open.insert(id.clone(), partition.clone());
        self.opened.lock().push(partition.clone());
        Ok(partition)
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
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
        self.topic_id(name).map(drop)
    }

    async fn delete_topic(&self, name: &TopicName, settings: &TopicSettings) -> Result<()> {
        let topic = self.topic_id(name)?;
        let partitions: Vec<_> = {
            let mut open = self.open.lock();
            let ids: Vec<_> = open.keys().filter(|id| id.topic == *name).cloned().collect();
            ids.iter().filter_map(|id| open.remove(id)).collect()
        };
        self.opened.lock().retain(|partition| partition.id.topic != *name);
        // The name gets another id when it comes again, so that late writes to the old one are nobody's.
        self.store.engine()?.catalog.remove(name.as_str()).map_err(failed)?;
        let keys = (0..settings.partitions).map(|partition| partition_key(topic, partition)).collect();
        self.queue.ask(|reply| Command::Delete(partitions, keys, reply)).await?
    }

    async fn list_topics(&self) -> Result<Vec<TopicName>> {
        let engine = self.store.engine()?;
        let mut names = Vec::new();
        for guard in engine.catalog.iter() {
            let (key, id) = guard.into_inner().map_err(failed)?;
            let Some(Ok(name)) = std::str::from_utf8(&key).ok().map(str::parse) else { continue };
            let prefix = word(&id).to_be_bytes();
            let held = engine.state.prefix(prefix).any(|guard| {
                let state = guard.into_inner().ok().and_then(|(_, value)| PartitionState::decode(&value));
                state.is_some_and(|state| state.last > 0)
            });
            if held {
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
        let free = self.store.free_bytes();
        let needed = self.store.options.free_bytes_min;
        let room = free.is_none_or(|free| free >= needed);
        let open = self.store.engine().is_ok();
        let mut notes = Vec::new();
        if !room {
            notes.push(format!(
                "the disk under {} is full: {} MiB are free, {} MiB are needed",
                self.store.folder().display(),
                free.unwrap_or(0) >> 20,
                needed >> 20
            ));
        }
        if !open {
            notes.push("the log is being opened again after a failed write".into());
        }
        Health { readable: open, writable: open && room, time: Some(Timestamp::now()), notes, ..Health::default() }
    }

    async fn shutdown(&self, deadline: Duration) {
        // What was accepted stands before this in the queue, and is written first.
        let partitions = self.opened.lock().clone();
        let (reply, stopped) = oneshot::channel();
        let asked = self.queue.commands.send(Command::Stop(partitions, reply)).is_ok();
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
