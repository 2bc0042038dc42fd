//! `TopicService`.

use synapse_hub_core::{Error, Point, Result, TopicName, TopicPattern};
use synapse_hub_hub::{Hub, TrimRequest};
use synapse_hub_proto::v1;

use super::convert;
use crate::catalog;

pub(super) async fn list(hub: &Hub, request: v1::ListTopicsRequest) -> Result<v1::ListTopicsResponse> {
    let pattern: Option<TopicPattern> = if request.pattern.is_empty() { None } else { Some(request.pattern.parse()?) };
    let names = hub.topics().list(pattern.as_ref()).await?;
    let topics = catalog::describe_all(hub, names).await?;
    Ok(v1::ListTopicsResponse { topics: topics.into_iter().map(convert::description).collect() })
}

pub(super) async fn describe(hub: &Hub, request: v1::DescribeTopicRequest) -> Result<v1::TopicDescription> {
    let topic: TopicName = request.topic.parse()?;
    Ok(convert::description(hub.topics().describe(&topic).await?))
}

pub(super) async fn create(hub: &Hub, request: v1::CreateTopicRequest) -> Result<v1::TopicDescription> {
    let topic: TopicName = request.topic.parse()?;
    let settings = convert::settings(request.settings)?.complete(&hub.options().default_topic);
    Ok(convert::description(hub.topics().create(&topic, settings, request.if_not_exists).await?))
}

pub(super) async fn delete(hub: &Hub, request: v1::DeleteTopicRequest) -> Result<v1::DeleteTopicResponse> {
    hub.topics().delete(&request.topic.parse()?).await?;
    Ok(v1::DeleteTopicResponse {})
}

pub(super) async fn trim(hub: &Hub, request: v1::TrimTopicRequest) -> Result<v1::TrimTopicResponse> {
    let topic: TopicName = request.topic.parse()?;
    let before: Option<Point> = match request.before.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error: Error| error.field("before"))?),
    };
    let keep_events = (request.keep_events > 0).then_some(request.keep_events);
    let (removed, topic) = hub.topics().trim(&topic, TrimRequest { before, keep_events }).await?;
    Ok(v1::TrimTopicResponse { removed, partitions: convert::partitions(&topic.partitions) })
}
