//! What HTTP and gRPC share in describing topics.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use synapse_hub_core::{Code, Result, TopicName};
use synapse_hub_hub::{Hub, TopicDescription};

/// How many topics of a list are described at once.
const AT_ONCE: usize = 16;

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
