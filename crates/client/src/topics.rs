//! The topics of a hub.

use std::time::Duration;

use synapse_hub_proto::v1::{
    CreateTopicRequest, DeleteTopicRequest, DescribeTopicRequest, ListTopicsRequest, TopicDescription, TopicSettings,
    TrimTopicRequest, topic_service_client::TopicServiceClient,
};
use tonic::transport::Channel;

use crate::{Result, retry::within};

/// The topics of a hub. Made by [`Client::topics`](crate::Client::topics).
#[derive(Clone)]
pub struct Topics {
    pub(crate) calls: TopicServiceClient<Channel>,
    pub(crate) timeout: Duration,
}

impl Topics {
    /// All topics (an empty pattern), or those that match a pattern.
    ///
    /// # Errors
    /// `invalid_topic`, and what the hub says.
    pub async fn list(&mut self, pattern: &str) -> Result<Vec<TopicDescription>> {
        let request = ListTopicsRequest { pattern: pattern.into() };
        Ok(within(self.timeout, self.calls.list_topics(request)).await?.topics)
    }

    /// One topic with what it holds.
    ///
    /// # Errors
    /// `topic_not_found`.
    pub async fn describe(&mut self, topic: &str) -> Result<TopicDescription> {
        within(self.timeout, self.calls.describe_topic(DescribeTopicRequest { topic: topic.into() })).await
    }

    /// Creates a topic. A setting of 0 is the hub's default.
    ///
    /// # Errors
    /// `topic_exists`, `invalid_topic_settings`.
    pub async fn create(
        &mut self,
        topic: &str,
        settings: TopicSettings,
        if_not_exists: bool,
    ) -> Result<TopicDescription> {
        let request = CreateTopicRequest { topic: topic.into(), settings: Some(settings), if_not_exists };
        within(self.timeout, self.calls.create_topic(request)).await
    }

    /// Deletes a topic with all its events.
    ///
    /// # Errors
    /// `topic_not_found`.
    pub async fn delete(&mut self, topic: &str) -> Result<()> {
        within(self.timeout, self.calls.delete_topic(DeleteTopicRequest { topic: topic.into() })).await?;
        Ok(())
    }

    /// Removes the oldest events: everything before a place (empty: none), or all but the latest so many a partition
    /// (0: no limit). Returns how many, where the hub can say.
    ///
    /// # Errors
    /// `topic_not_found`, `invalid_replay_point`, `invalid_argument`.
    pub async fn trim(&mut self, topic: &str, before: &str, keep_events: u64) -> Result<Option<u64>> {
        let request = TrimTopicRequest { topic: topic.into(), before: before.into(), keep_events };
        Ok(within(self.timeout, self.calls.trim_topic(request)).await?.removed)
    }
}
