//! The topics that this hub knows, kept true by watching the MetaStore and by looking at the backend.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::StreamExt as _;
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Error, PartitionId, Result, TopicName, TopicSettings,
    backend::{Backend, EventLog, ReadLimits},
    meta::{Change, Document, Expected},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{HubOptions, Metrics, TopicMetrics, tail::Tail};

/// Where the settings of topics are kept in the MetaStore.
const TOPIC_KEYS: &str = "topics/";

/// A topic that is in use on this hub.
pub(crate) struct Topic {
    pub(crate) name: TopicName,
    pub(crate) settings: TopicSettings,
    /// Version of the settings; 0 when the topic was never declared.
    pub(crate) revision: u64,
    pub(crate) metrics: Arc<TopicMetrics>,
    /// Cancelled when the topic is deleted or its settings change: whoever holds it asks the catalog again.
    pub(crate) stale: CancellationToken,
    partitions: Vec<OnceLock<Partition>>,
    opening: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
pub(crate) struct Partition {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) tail: Arc<Tail>,
}

impl Topic {
    pub(crate) fn declared(&self) -> bool {
        self.revision > 0
    }

    pub(crate) fn partition_ids(&self) -> impl Iterator<Item = PartitionId> + '_ {
        (0..self.settings.partitions).map(|partition| PartitionId::new(self.name.clone(), partition))
    }
}

/// The topics of this hub.
pub(crate) struct Catalog {
    backend: Arc<dyn Backend>,
    options: HubOptions,
    metrics: Arc<Metrics>,
    topics: RwLock<FxHashMap<TopicName, Arc<Topic>>>,
    /// All names: declared ones and those found on the backend.
    names: Mutex<BTreeSet<TopicName>>,
    /// Changes whenever `names` or a topic does.
    changed: watch::Sender<u64>,
    /// Shared by subscriptions with wildcards: while there are any, the backend is looked at for new topics.
    wildcards: Arc<()>,
}

impl Catalog {
    pub(crate) async fn start(
        backend: Arc<dyn Backend>,
        options: HubOptions,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>> {
        let catalog = Arc::new(Self {
            backend,
            options,
            metrics,
            topics: RwLock::default(),
            names: Mutex::default(),
            changed: watch::Sender::new(0),
            wildcards: Arc::default(),
        });
        let revision = catalog.backend.meta().revision().await?;
        for document in catalog.backend.meta().list(TOPIC_KEYS).await? {
            catalog.adopt(&document)?;
        }
        catalog.discover().await?;
        tokio::spawn(catalog.clone().follow(revision, stop.clone()));
        tokio::spawn(catalog.clone().look_around(stop));
        Ok(catalog)
    }

    /// Tells of every change of the set of topics.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Held by those who wait for topics that other programs make.
    pub(crate) fn wildcard_interest(&self) -> Arc<()> {
        self.wildcards.clone()
    }

    /// All known names, in order.
    pub(crate) fn names(&self) -> Vec<TopicName> {
        self.names.lock().iter().cloned().collect()
    }

    /// Topics that are in use on this hub.
    pub(crate) fn in_use(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    /// The topic to publish to; it is created when it does not exist and that is allowed.
    pub(crate) async fn for_publish(&self, name: &TopicName) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topics.read().get(name)
            && topic.declared()
        {
            return Ok(topic.clone());
        }
        if let Some(document) = self.backend.meta().get(&key(name)).await? {
            return self.adopt(&document);
        }
        if !self.options.auto_create {
            return Err(not_found(name, "create it first (`synapse topics create`), or allow `topics.auto_create`"));
        }
        self.create(name, self.options.default_topic.clone()).await
    }

    /// The topic to read from. One that nobody made yet is empty, where topics are created by publishing.
    pub(crate) async fn for_read(&self, name: &TopicName) -> Result<Arc<Topic>> {
        if let Some(topic) = self.topics.read().get(name) {
            return Ok(topic.clone());
        }
        if let Some(document) = self.backend.meta().get(&key(name)).await? {
            return self.adopt(&document);
        }
        if !self.options.auto_create && !self.exists(name).await? {
            return Err(not_found(name, "see `synapse topics list` for those that exist"));
        }
        Ok(self.insert(self.undeclared(name)))
    }

    /// The topic as this hub knows it, without asking the backend.
    pub(crate) fn current(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    /// As [`Catalog::current`]; one that was only found on the backend has the default settings.
    pub(crate) fn known(&self, name: &TopicName) -> Arc<Topic> {
        self.current(name).unwrap_or_else(|| self.insert(self.undeclared(name)))
    }

    fn undeclared(&self, name: &TopicName) -> Topic {
        let settings = TopicSettings { partitions: 1, ..self.options.default_topic.clone() };
        Topic::new(name.clone(), settings, 0, &self.metrics)
    }

    /// Whether the topic was declared or holds events.
    pub(crate) async fn exists(&self, name: &TopicName) -> Result<bool> {
        if self.topics.read().get(name).is_some_and(|topic| topic.declared()) {
            return Ok(true);
        }
        if self.backend.meta().get(&key(name)).await?.is_some() {
            return Ok(true);
        }
        Ok(self.backend.list_topics().await?.contains(name))
    }

    /// Declares a topic. Another hub may do the same at the same moment: then theirs holds.
    pub(crate) async fn create(&self, name: &TopicName, settings: TopicSettings) -> Result<Arc<Topic>> {
        settings.validate().map_err(|error| error.topic(name.as_str()))?;
        if self.names.lock().len() >= self.options.limits.topics {
            return Err(Error::new(
                Code::InvalidTopicSettings,
                format!(
                    "there are {} topics already (`limits.topics`); delete some or raise the limit",
                    self.options.limits.topics
                ),
            )
            .topic(name.as_str()));
        }
        self.backend.create_topic(name, &settings).await?;
        let value = serde_json::to_vec(&settings).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let meta = self.backend.meta();
        match meta.put(&key(name), value.into(), Expected::Absent).await {
            Ok(version) => Ok(self.insert(Topic::new(name.clone(), settings, version, &self.metrics))),
            Err(error) if error.code() == Code::Conflict => match meta.get(&key(name)).await? {
                Some(document) => self.adopt(&document),
                None => Err(error.topic(name.as_str())),
            },
            Err(error) => Err(error.topic(name.as_str())),
        }
    }

    /// Deletes a topic with all its events.
    pub(crate) async fn delete(&self, name: &TopicName) -> Result<()> {
        if !self.exists(name).await? {
            return Err(not_found(name, "see `synapse topics list` for those that exist"));
        }
        let topic = self.for_read(name).await?;
        self.backend.meta().delete(&key(name), Expected::Any).await?;
        self.backend.delete_topic(name, &topic.settings).await?;
        self.forget(name);
        Ok(())
    }

    /// The log and the tail of a partition.
    pub(crate) async fn partition(&self, topic: &Topic, partition: u32) -> Result<Partition> {
        let slot = topic.partitions.get(partition as usize).ok_or_else(|| {
            let what = format!("partition {partition} of {} does not exist", topic.settings.partitions);
            Error::new(Code::InvalidArgument, what).topic(topic.name.as_str())
        })?;
        if let Some(open) = slot.get() {
            return Ok(open.clone());
        }
        let _opening = topic.opening.lock().await;
        if let Some(open) = slot.get() {
            return Ok(open.clone());
        }
        let id = PartitionId::new(topic.name.clone(), partition);
        let log = self.backend.open(&id, &topic.settings).await?;
        let limits = &self.options.limits;
        let read = ReadLimits { batch_events_max: limits.delivery_events, batch_bytes_max: limits.delivery_bytes };
        let tail = Tail::new(id, log.clone(), topic.metrics.clone(), limits.tail_bytes, read);
        Ok(slot.get_or_init(|| Partition { log, tail }).clone())
    }

    /// Looks at the backend for topics that other programs made.
    pub(crate) async fn discover(&self) -> Result<()> {
        let found = self.backend.list_topics().await?;
        let new = {
            let mut names = self.names.lock();
            let before = names.len();
            names.extend(found);
            names.len() != before
        };
        if new {
            self.changed.send_modify(|version| *version += 1);
        }
        Ok(())
    }

    async fn look_around(self: Arc<Self>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.options.topic_discovery) => {}
            }
            // Only wildcard subscriptions wait for the topics of others.
            if Arc::strong_count(&self.wildcards) == 1 {
                continue;
            }
            match self.discover().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "cannot look for new topics; trying on");
                }
                Err(_) => {}
            }
        }
    }

    async fn follow(self: Arc<Self>, revision: u64, stop: CancellationToken) {
        let mut changes = self.backend.meta().watch(TOPIC_KEYS, revision);
        let mut failing = false;
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.next() => change,
            };
            match change {
                None => return,
                Some(Ok(change)) => {
                    failing = false;
                    self.apply(change);
                }
                Some(Err(error)) => {
                    if error.code() == Code::ShuttingDown {
                        return;
                    }
                    if !failing {
                        failing = true;
                        tracing::warn!(%error, "cannot watch the settings of topics; trying on");
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    fn apply(&self, change: Change) {
        match &change.document {
            Some(document) => {
                if let Err(error) = self.adopt(document) {
                    tracing::warn!(key = change.key, %error, "cannot read the settings of a topic");
                }
            }
            None => {
                if let Some(Ok(name)) = change.key.strip_prefix(TOPIC_KEYS).map(str::parse) {
                    self.forget(&name);
                }
            }
        }
    }

    fn adopt(&self, document: &Document) -> Result<Arc<Topic>> {
        let name: TopicName = document.key.trim_start_matches(TOPIC_KEYS).parse()?;
        if let Some(topic) = self.topics.read().get(&name)
            && topic.revision >= document.version
        {
            return Ok(topic.clone());
        }
        let settings: TopicSettings = serde_json::from_slice(&document.value).map_err(|error| {
            let what = format!("its stored settings cannot be read ({error}); was it made by a newer version?");
            Error::new(Code::InvalidTopicSettings, what).topic(name.as_str())
        })?;
        Ok(self.insert(Topic::new(name, settings, document.version, &self.metrics)))
    }

    fn insert(&self, topic: Topic) -> Arc<Topic> {
        let topic = {
            let mut topics = self.topics.write();
            match topics.get(&topic.name) {
                Some(known) if known.revision >= topic.revision => return known.clone(),
                Some(known) => known.stale.cancel(),
                None => {}
            }
            let topic = Arc::new(topic);
            topics.insert(topic.name.clone(), topic.clone());
            topic
        };
        if topic.declared() {
            self.names.lock().insert(topic.name.clone());
        }
        self.changed.send_modify(|version| *version += 1);
        topic
    }

    fn forget(&self, name: &TopicName) {
        self.names.lock().remove(name);
        if let Some(topic) = self.topics.write().remove(name) {
            topic.stale.cancel();
        }
        self.changed.send_modify(|version| *version += 1);
    }
}

impl Topic {
    fn new(name: TopicName, settings: TopicSettings, revision: u64, metrics: &Metrics) -> Self {
        let partitions = (0..settings.partitions).map(|_| OnceLock::new()).collect();
        let metrics = metrics.topic(&name);
        Self {
            name,
            settings,
            revision,
            metrics,
            stale: CancellationToken::new(),
            partitions,
            opening: tokio::sync::Mutex::new(()),
        }
    }
}

pub(crate) fn not_found(name: &TopicName, advice: &str) -> Error {
    Error::new(Code::TopicNotFound, format!("there is no such topic; {advice}")).topic(name.as_str())
}

fn key(name: &TopicName) -> String {
    format!("{TOPIC_KEYS}{name}")
}
