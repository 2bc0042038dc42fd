//! What HTTP and gRPC share in describing topics.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use synapse_hub_core::{Code, Durability, Layout, Result, TopicName, TopicSettings};
use synapse_hub_hub::{Hub, TopicDescription};

/// How many topics of a list are described at once.
const AT_ONCE: usize = 16;

/// The settings that a request asks for.
#[derive(Debug, Default)]
pub(crate) struct AskedSettings {
    pub(crate) partitions: Option<u32>,
    pub(crate) durability: Option<Durability>,
    pub(crate) layout: Option<Layout>,
    pub(crate) dedup_window_ms: Option<u64>,
    pub(crate) retention_ms: Option<u64>,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) retention_events: Option<u64>,
}

impl AskedSettings {
    /// These settings, with what is left out taken from `default`. A window or a limit of 0 is none.
    pub(crate) fn complete(self, default: &TopicSettings) -> TopicSettings {
        let duration = |millis: Option<u64>, default| match millis {
            Some(millis) => (millis > 0).then_some(Duration::from_millis(millis)),
            None => default,
        };
        let limit = |value: Option<u64>, default: Option<u64>| value.or(default).filter(|&value| value > 0);
        TopicSettings {
            partitions: self.partitions.unwrap_or(default.partitions),
            durability: self.durability.unwrap_or(default.durability),
            layout: self.layout.unwrap_or(default.layout),
            dedup_window: duration(self.dedup_window_ms, default.dedup_window),
            retention_time: duration(self.retention_ms, default.retention_time),
            retention_bytes: limit(self.retention_bytes, default.retention_bytes),
            retention_events: limit(self.retention_events, default.retention_events),
        }
    }
}

/// Describes topics, in order. What was deleted meanwhile is left out, and what only looks like a topic as well.
pub(crate) async fn describe_all(hub: &Hub, names: Vec<TopicName>) -> Result<Vec<TopicDescription>> {
    let described = futures::stream::iter(names).map(async |name| match hub.topics().describe(&name).await {
        Ok(topic) => Ok(Some(topic)),
        Err(error) if matches!(error.code(), Code::TopicNotFound | Code::BackendWrongType) => Ok(None),
        Err(error) => Err(error),
    });
    described.buffered(AT_ONCE).try_filter_map(|topic| async { Ok(topic) }).try_collect().await
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
