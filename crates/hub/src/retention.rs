//! Retention: removes what topics no longer keep.
//!
//! One hub at a time does it for all, by a lease, so that several hubs on one Redis do not do the work twice.

use std::sync::Arc;

use synapse_hub_core::{
    Result, Timestamp,
    backend::{EventLog, Trim},
};

use crate::{catalog::Topic, hub::Inner};

const LEASE: &str = "leases/retention";

pub(crate) async fn run(hub: Arc<Inner>) {
    let interval = hub.options.retention_interval;
    let mut failing = false;
    loop {
        tokio::select! {
            () = hub.stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        match enforce_all(&hub).await {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "cannot enforce retention; trying on");
            }
            Err(_) => {}
        }
    }
}

async fn enforce_all(hub: &Inner) -> Result<()> {
    let limited: Vec<_> = hub.catalog.in_use().into_iter().filter(|topic| limits(topic)).collect();
    if limited.is_empty()
        || !hub.backend.meta().lease(LEASE, &hub.options.hub_id, hub.options.retention_interval * 3).await?
    {
        return Ok(());
    }
    for topic in limited {
        for partition in 0..topic.settings.partitions {
            let log = hub.catalog.partition(&topic, partition).await?.log;
            let removed = enforce(&topic, log.as_ref()).await.map_err(|error| error.topic(topic.name.as_str()))?;
            if removed.is_some_and(|removed| removed > 0) {
                tracing::debug!(topic = %topic.name, partition, removed, "removed what is past the topic's retention");
            }
        }
    }
    Ok(())
}

fn limits(topic: &Topic) -> bool {
    let settings = &topic.settings;
    settings.retention_time.is_some() || settings.retention_bytes.is_some() || settings.retention_events.is_some()
}

async fn enforce(topic: &Topic, log: &dyn EventLog) -> Result<Option<u64>> {
    let settings = &topic.settings;
    let up_to = match settings.retention_time {
        Some(age) => Some(log.find(Timestamp::now().minus(age)).await?),
        None => None,
    };
    let trim =
        Trim { up_to, events_max: settings.retention_events, bytes_max: settings.retention_bytes, approximate: true };
    Ok(log.trim(trim).await?.removed)
}
