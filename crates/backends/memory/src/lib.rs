//! The memory backend: the reference model of the backend contract.
//!
//! As plain as it can be: a vector of records behind a lock, and a watch that wakes readers. What it does is what the
//! other backends are held against; nothing survives the process.

mod log;
mod meta;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use synapse_hub_core::{
    Durability, Error, Layout, PartitionId, Result, Timestamp, TopicName, TopicSettings,
    backend::{Backend, Capabilities, EventLog, GapCounts, Guarantee, Health, Sharing, Survival},
    meta::MetaStore,
};
use tokio::sync::watch;

use crate::{log::Log, meta::Meta};

/// The largest event, in bytes.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// Events in the memory of this process. Clones share them, as hubs share a server.
#[derive(Clone)]
pub struct Memory {
    logs: Arc<Mutex<BTreeMap<PartitionId, Arc<Log>>>>,
    meta: Arc<Meta>,
    stop: watch::Sender<bool>,
}

impl Memory {
    /// A backend that holds nothing yet.
    pub fn new() -> Self {
        let stop = watch::Sender::new(false);
        Self { logs: Arc::default(), meta: Arc::new(Meta::new(stop.clone())), stop }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

fn stopping() -> Error {
    Error::new(synapse_hub_core::Code::ShuttingDown, "the memory backend is closed")
}

#[async_trait]
impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            survives: Survival::Process,
            layouts: &[Layout::Flat, Layout::Packed],
            sharing: Sharing::Exclusive,
            gap_counts: GapCounts::Exact,
            event_bytes_max: EVENT_BYTES_MAX,
            find_precision: Duration::ZERO,
        }
    }

    async fn guarantee(&self, _durability: Durability) -> Result<Guarantee> {
        Ok(Guarantee { level: Durability::Memory, text: "memory: gone when the hub stops".into() })
    }

    async fn create_topic(&self, _name: &TopicName, _settings: &TopicSettings) -> Result<()> {
        Ok(())
    }

    async fn delete_topic(&self, name: &TopicName, _settings: &TopicSettings) -> Result<()> {
        self.logs.lock().retain(|id, log| {
            if id.topic == *name {
                log.delete();
            }
            id.topic != *name
        });
        Ok(())
    }

    async fn list_topics(&self) -> Result<Vec<TopicName>> {
        let logs = self.logs.lock();
        let mut names: Vec<_> = logs.iter().filter(|(_, log)| log.was_used()).map(|(id, _)| id.topic.clone()).collect();
        names.dedup();
        Ok(names)
    }

    async fn open(&self, partition: &PartitionId, _settings: &TopicSettings) -> Result<Arc<dyn EventLog>> {
        let mut logs = self.logs.lock();
        let log = logs.entry(partition.clone()).or_insert_with(|| Arc::new(Log::new(self.stop.clone())));
        Ok(Arc::new(log::Handle(log.clone())))
    }

    fn meta(&self) -> Arc<dyn MetaStore> {
        self.meta.clone()
    }

    async fn health(&self) -> Health {
        Health { readable: true, writable: true, time: Some(Timestamp::now()), ..Health::default() }
    }

    async fn shutdown(&self, _deadline: Duration) {
        self.stop.send_replace(true);
    }
}
