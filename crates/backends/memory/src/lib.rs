//! The memory backend: the reference model of the backend contract.
//!
//! Everything is in the memory of this process and ends with it. It is meant to be obviously right rather than fast:
//! one lock a partition, under which a batch is checked, stored and shown to readers at once.

mod log;
mod meta;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use synapse_hub_core::{
    Code, Durability, Error, Layout, PartitionId, Result, Timestamp, TopicName, TopicSettings,
    backend::{Backend, Capabilities, EventLog, GapCounts, Guarantee, Health, Sharing, Survival},
    meta::MetaStore,
};
use tokio::sync::watch;

use crate::{log::MemoryLog, meta::MemoryMeta};

/// The largest event, in bytes.
const EVENT_BYTES_MAX: usize = 64 << 20;

/// Events in memory. Clones share them.
#[derive(Debug, Clone)]
pub struct Memory {
    logs: Arc<Mutex<BTreeMap<PartitionId, Arc<MemoryLog>>>>,
    meta: Arc<MemoryMeta>,
    stop: watch::Sender<bool>,
}

impl Memory {
    /// Room for events, with nothing in it.
    pub fn new() -> Self {
        let stop = watch::Sender::new(false);
        Self { logs: Arc::default(), meta: Arc::new(MemoryMeta::new(stop.clone())), stop }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) fn stopping() -> Error {
    Error::new(Code::ShuttingDown, "the hub is shutting down")
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
        Ok(Guarantee { level: Durability::Memory, text: "memory: lost when the hub stops".into() })
    }

    async fn create_topic(&self, _name: &TopicName, _settings: &TopicSettings) -> Result<()> {
        Ok(())
    }

    async fn delete_topic(&self, name: &TopicName, _settings: &TopicSettings) -> Result<()> {
        self.logs.lock().retain(|id, log| {
            let stays = id.topic != *name;
            if !stays {
                log.delete();
            }
            stays
        });
        Ok(())
    }

    async fn list_topics(&self) -> Result<Vec<TopicName>> {
        let logs = self.logs.lock();
        let mut names: Vec<_> = logs.iter().filter(|(_, log)| log.was_used()).map(|(id, _)| id.topic.clone()).collect();
        // The partitions of a topic are neighbours.
        names.dedup();
        Ok(names)
    }

    async fn open(&self, partition: &PartitionId, _settings: &TopicSettings) -> Result<Arc<dyn EventLog>> {
        let mut logs = self.logs.lock();
        if !logs.contains_key(partition) {
            // Reading what nobody wrote leaves nothing behind once the readers are gone.
            logs.retain(|_, log| log.was_used() || log.is_read() || Arc::strong_count(log) > 1);
        }
        let log = logs.entry(partition.clone()).or_insert_with(|| Arc::new(MemoryLog::new(self.stop.clone())));
        Ok(log.clone())
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
