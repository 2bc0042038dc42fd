//! The embedded backend: an event log in a local folder, for one hub.
//!
//! Batches are stored as they are, one value a batch, in fjall. One thread writes (`writer.rs`); readers of the latest
//! events get them from memory, all others read the log in chunks.
//!
//! What an acknowledgement means: `memory` — in the engine's memory; `stored` — handed to the operating system, and so
//! safe from the death of this process; `synced` — on the disk.

mod catalog;
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
use parking_lot::Mutex;
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
    partition::Partitions,
    store::Store,
    writer::{Command, Writer},
};

/// An embedded log.
pub struct Embedded {
    store: Arc<Store>,
    queue: Queue,
    meta: Arc<Meta>,
    partitions: Arc<Mutex<Partitions>>,
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
        let partitions = Arc::new(Mutex::new(Partitions::default()));
        let deleted_topics = catalog::deleted_topics(&*store.engine()?)?;
        let writer = Writer::new(store.clone(), partitions.clone(), deleted_topics);
        let (commands, requests) = mpsc::channel();
        let thread = std::thread::Builder::new().name("synapse-log".into()).spawn(move || writer.run(&requests));
        let thread = thread.map_err(|error| Error::new(Code::Internal, format!("cannot start the writer: {error}")))?;
        let queue = Queue { commands, room, stop };
        Ok(Self { store, queue, meta, partitions, writer: Mutex::new(Some(thread)) })
    }
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
        self.queue.ask(|reply| Command::Create(name.clone(), reply)).await
    }

    async fn delete_topic(&self, name: &TopicName, _settings: &TopicSettings) -> Result<()> {
        self.queue.ask(|reply| Command::Delete(name.clone(), reply)).await
    }

    async fn list_topics(&self) -> Result<Vec<TopicName>> {
        let store = self.store.clone();
        log::blocking(move || catalog::used_topics(&*store.engine()?)).await
    }

    async fn open(&self, partition: &PartitionId, _settings: &TopicSettings) -> Result<Arc<dyn EventLog>> {
        let open = self.partitions.lock().get(partition);
        let partition = match open {
            Some(partition) => partition,
            None => {
                let (partitions, store, id) = (self.partitions.clone(), self.store.clone(), partition.clone());
                log::blocking(move || partitions.lock().open(&*store.engine()?, &id)).await?
            }
        };
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

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Instant};

    use futures::{FutureExt as _, StreamExt as _};
    use synapse_hub_core::{
        Event, Position,
        backend::{Append, ReadLimits, Trim},
        meta::Expected,
    };

    use super::*;

    fn start() -> (tempfile::TempDir, Embedded) {
        let folder = tempfile::tempdir().unwrap();
        let backend = Embedded::open(folder.path(), EmbeddedOptions::default()).unwrap();
        (folder, backend)
    }

    async fn open(backend: &Embedded, topic: &str) -> Arc<dyn EventLog> {
        backend.open(&PartitionId::new(topic.parse().unwrap(), 0), &TopicSettings::default()).await.unwrap()
    }

    fn names_on_disk(backend: &Embedded) -> usize {
        backend.store.engine().unwrap().catalog.range(keys::FIRST_NAME..).count()
    }

    async fn append(log: &Arc<dyn EventLog>) {
        log.append(Append::new(vec![Event::new("tick", "{}")])).await.unwrap().await.unwrap();
    }

    #[tokio::test]
    async fn reading_what_nobody_wrote_leaves_nothing_behind() {
        let (_folder, backend) = start();
        for number in 0..1000 {
            let log = open(&backend, &format!("unknown-{number}")).await;
            assert_eq!(log.bounds().await.unwrap().end, Position::START);
            assert_eq!(log.find(Timestamp::now()).await.unwrap(), Position::START);
            log.trim(Trim { events_max: Some(0), ..Trim::default() }).await.unwrap();
            assert!(log.read(Position::START, None, ReadLimits::default()).next().now_or_never().is_none());
        }
        assert_eq!(names_on_disk(&backend), 0);
        assert!(backend.partitions.lock().opened() < 10, "what nobody reads any more is remembered");
        let engine = backend.store.engine().unwrap();
        assert_eq!(engine.state.iter().count(), 0);
    }

    #[tokio::test]
    async fn a_topic_begins_with_its_first_append_for_everybody_who_has_it_open() {
        let (_folder, backend) = start();
        let (reader, writer) = (open(&backend, "t").await, open(&backend, "t").await);
        let mut events = reader.read(Position::START, None, ReadLimits::default());
        assert!(events.next().now_or_never().is_none());
        drop(reader);
        append(&writer).await;
        assert!(events.next().await.unwrap().is_ok());
        assert_eq!(names_on_disk(&backend), 1);
        // From then on it is known, also when nobody has it open.
        drop((writer, events));
        append(&open(&backend, "t").await).await;
        assert_eq!(open(&backend, "t").await.bounds().await.unwrap().end, Position::offset(2));
    }

    #[tokio::test]
    async fn an_engine_that_stalls_holds_up_nobody_but_those_who_write() {
        let (_folder, backend) = start();
        let backend = Arc::new(backend);
        let known = open(&backend, "known").await;
        append(&known).await;
        backend.create_topic(&"deleted".parse().unwrap(), &TopicSettings::default()).await.unwrap();

        let engine = backend.store.engine().unwrap();
        engine.stalled.store(true, Ordering::Release);
        // The only thread of this runtime must stay free. This one ends the stall if it does not.
        let watchdog = std::thread::spawn({
            let engine = engine.clone();
            move || {
                std::thread::sleep(Duration::from_secs(5));
                engine.stalled.store(false, Ordering::Release);
            }
        });
        let started = Instant::now();
        let writes = tokio::spawn({
            let (backend, meta) = (backend.clone(), backend.meta());
            async move {
                let settings = TopicSettings::default();
                let (created, deleted) = ("created".parse().unwrap(), "deleted".parse().unwrap());
                let (put, created, deleted, ()) = futures::join!(
                    meta.put("key", "value".into(), Expected::Absent),
                    backend.create_topic(&created, &settings),
                    backend.delete_topic(&deleted, &settings),
                    async { append(&open(&backend, "new").await).await },
                );
                put.and(created).and(deleted).unwrap();
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(known.bounds().await.unwrap().events, Some(1));
        open(&backend, "unknown").await;
        assert!(backend.meta().lease("lease", "me", Duration::from_secs(1)).await.unwrap());
        assert!(!writes.is_finished(), "the engine does not stall");
        assert!(started.elapsed() < Duration::from_secs(4), "a write blocks a thread of the runtime");
        engine.stalled.store(false, Ordering::Release);
        writes.await.unwrap();
        drop(watchdog);
    }
}
