//! Topics as users manage them: list, describe, create, delete, trim.

use std::sync::Arc;

use serde::Serialize;
use synapse_hub_core::{
    Code, Error, Point, Result, TopicName, TopicPattern, TopicSettings,
    backend::{Bounds, Guarantee, Trim},
};

use crate::{catalog::Topic, hub::Inner, resolve};

/// The topics of a hub.
#[derive(Clone)]
pub struct Topics {
    pub(crate) hub: Arc<Inner>,
}

/// A topic with what it holds.
#[derive(Debug, Clone)]
pub struct TopicDescription {
    /// Its name.
    pub topic: TopicName,
    /// Its settings.
    pub settings: TopicSettings,
    /// Created through Synapse; false when it was found on the backend.
    pub declared: bool,
    /// Version of the settings; 0 when it was never declared.
    pub revision: u64,
    /// What its durability means on this backend.
    pub guarantee: Guarantee,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// What a partition holds.
#[derive(Debug, Clone, Copy)]
pub struct PartitionDescription {
    /// Its number.
    pub partition: u32,
    /// What it holds.
    pub bounds: Bounds,
}

/// Which of a topic's oldest events to remove.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct TrimRequest {
    /// What stands before this place.
    #[serde(skip)]
    pub before: Option<Point>,
    /// All but the latest so many a partition.
    pub keep_events: Option<u64>,
}

impl Topics {
    /// The names of all topics, or of those that match, in order. Asks the backend.
    pub async fn list(&self, pattern: Option<&TopicPattern>) -> Result<Vec<TopicName>> {
        self.hub.catalog.discover().await?;
        let mut names = self.hub.catalog.names();
        names.retain(|name| pattern.is_none_or(|pattern| pattern.matches(name)));
        Ok(names)
    }

    /// A topic with what it holds.
    ///
    /// # Errors
    /// `topic_not_found`.
    pub async fn describe(&self, name: &TopicName) -> Result<TopicDescription> {
        let topic = self.hub.catalog.existing(name).await?;
        self.describe_topic(&topic).await
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// `topic_exists` when there is one with other settings, or with any unless `if_not_exists`;
    /// `invalid_topic_settings`.
    pub async fn create(
        &self,
        name: &TopicName,
        settings: TopicSettings,
        if_not_exists: bool,
    ) -> Result<TopicDescription> {
        settings.validate().map_err(|error| error.topic(name.as_str()))?;
        let layouts = self.hub.backend.capabilities().layouts;
        if !layouts.contains(&settings.layout) {
            let what = format!("this backend ({}) has no such layout", self.hub.backend.name());
            return Err(Error::new(Code::Unsupported, what).topic(name.as_str()).field("layout"));
        }
        let catalog = &self.hub.catalog;
        let known = match catalog.existing(name).await {
            Err(error) if error.code() == Code::TopicNotFound => None,
            known => Some(known?),
        };
        let exists = |why: &str| Err(Error::new(Code::TopicExists, why).topic(name.as_str()));
        if let Some(known) = &known
            && known.declared()
            && !if_not_exists
        {
            return exists("the topic exists already; describe it, or say that this is no error (`if_not_exists`)");
        }
        let topic = match known {
            Some(known) if known.declared() => known,
            _ => catalog.create(name, settings.clone()).await?,
        };
        if topic.settings != settings {
            return exists("the topic exists with other settings; describe it to see them, or delete it first");
        }
        self.describe_topic(&topic).await
    }

    /// Deletes a topic with all its events. Its subscribers are told.
    ///
    /// # Errors
    /// `topic_not_found`.
    pub async fn delete(&self, name: &TopicName) -> Result<()> {
        self.hub.catalog.delete(name).await
    }

    /// Removes the oldest events; returns how many, where the backend can say, and what is left.
    ///
    /// # Errors
    /// `topic_not_found`, `invalid_argument`, `invalid_replay_point`.
    pub async fn trim(&self, name: &TopicName, request: TrimRequest) -> Result<(Option<u64>, TopicDescription)> {
        let topic = self.hub.catalog.existing(name).await?;
        if request.before.is_none() && request.keep_events.is_none() {
            let what = "say what to remove: everything `before` a place, or all but `keep_events`";
            return Err(Error::new(Code::InvalidArgument, what).topic(name.as_str()));
        }
        if let Some(point) = &request.before {
            resolve::check(point, topic.settings.partitions == 1, "before")?;
        }
        let mut removed = Some(0);
        for id in topic.partition_ids() {
            let log = self.hub.catalog.partition(&topic, id.partition).await?.log;
            let up_to = match &request.before {
                Some(point) => Some(resolve::start(point, &id, log.as_ref()).await?),
                None => None,
            };
            let trim = Trim { up_to, events_max: request.keep_events, ..Trim::default() };
            let trimmed = log.trim(trim).await.map_err(|error| error.topic(name.as_str()))?;
            removed = removed.zip(trimmed.removed).map(|(sum, more)| sum + more);
        }
        Ok((removed, self.describe_topic(&topic).await?))
    }

    async fn describe_topic(&self, topic: &Topic) -> Result<TopicDescription> {
        let mut partitions = Vec::new();
        for partition in 0..topic.settings.partitions {
            let log = self.hub.catalog.partition(topic, partition).await?.log;
            let bounds = log.bounds().await.map_err(|error| error.topic(topic.name.as_str()))?;
            partitions.push(PartitionDescription { partition, bounds });
        }
        Ok(TopicDescription {
            topic: topic.name.clone(),
            settings: topic.settings.clone(),
            declared: topic.declared(),
            revision: topic.revision,
            guarantee: self.hub.backend.guarantee(topic.settings.durability).await?,
            partitions,
        })
    }
}
