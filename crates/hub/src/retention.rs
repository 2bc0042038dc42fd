//! Retention: removes what topics no longer keep.
//!
//! One hub at a time does it for all, by a lease, so that several hubs on one Redis do not do the work twice.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use synapse_hub_core::{Result, Timestamp, TopicName, backend::Trim};

use crate::{catalog::Topic, hub::Inner};

const LEASE: &str = "leases/retention";

pub(crate) async fn run(hub: Arc<Inner>) {
    let mut failing = false;
    // Topics whose trouble was told already.
    let mut troubled = FxHashSet::default();
    loop {
        tokio::select! {
            () = hub.stop.cancelled() => return,
            () = tokio::time::sleep(hub.options.retention_interval) => {}
        }
        match enforce_all(&hub, &mut troubled).await {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "cannot enforce retention; trying on");
            }
            Err(_) => {}
        }
    }
}

/// What other programs keep in topics that nobody declared is theirs: the default settings do not apply to it.
async fn enforce_all(hub: &Inner, troubled: &mut FxHashSet<TopicName>) -> Result<()> {
    let limited: Vec<_> = hub.catalog.declared().into_iter().filter(|topic| limits(topic)).collect();
    if limited.is_empty() || !lease(hub).await? {
        return Ok(());
    }
    for topic in limited {
        let Err(error) = enforce_topic(hub, &topic).await else {
            troubled.remove(&topic.name);
            continue;
        };
        // A backend that answers has trouble with this topic only, which does not concern the others.
        if !lease(hub).await? {
            return Ok(());
        }
        if troubled.insert(topic.name.clone()) {
            tracing::warn!(topic = %topic.name, %error, "cannot enforce the retention of a topic; trying on");
        }
    }
    Ok(())
}

async fn lease(hub: &Inner) -> Result<bool> {
    hub.backend.meta().lease(LEASE, &hub.options.hub_id, hub.options.retention_interval * 3).await
}

/// Trims what partitions can be trimmed; the error is that of one that cannot.
async fn enforce_topic(hub: &Inner, topic: &Topic) -> Result<()> {
    let mut outcome = Ok(());
    for partition in 0..topic.settings.partitions {
        match enforce(hub, topic, partition).await {
            Ok(Some(removed)) if removed > 0 => {
                tracing::debug!(topic = %topic.name, partition, removed, "removed what is past the topic's retention");
            }
            Ok(_) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

fn limits(topic: &Topic) -> bool {
    let settings = &topic.settings;
    settings.retention_time.is_some() || settings.retention_bytes.is_some() || settings.retention_events.is_some()
}

async fn enforce(hub: &Inner, topic: &Topic, partition: u32) -> Result<Option<u64>> {
    let log = hub.catalog.partition(topic, partition).await?.log;
    let settings = &topic.settings;
    let up_to = match settings.retention_time {
        Some(age) => Some(log.find(Timestamp::now().minus(age)).await?),
        None => None,
    };
    let trim =
        Trim { up_to, events_max: settings.retention_events, bytes_max: settings.retention_bytes, approximate: true };
    Ok(log.trim(trim).await?.removed)
}
