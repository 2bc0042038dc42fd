//! The topics that this hub knows, kept true by watching the MetaStore and by looking at the backend.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::StreamExt as _;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Error, PartitionId, Position, Result, TopicName, TopicSettings,
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
    fate: OnceLock<Fate>,
    /// Counts this topic among those in use that nobody declared.
    _undeclared: Option<Arc<()>>,
    partitions: Vec<OnceLock<Partition>>,
    opening: tokio::sync::Mutex<()>,
}

/// Why a topic is no longer to be used: whoever holds it asks the catalog again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was declared. It has settings now, and still the same events.
    Declared,
    /// It was deleted with all its events, and perhaps made anew since.
    Deleted,
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

    /// What became of it, if it is no longer to be used.
    pub(crate) fn fate(&self) -> Option<Fate> {
        self.fate.get().copied()
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
    known: RwLock<Known>,
    /// Changes whenever a name or a declared topic comes or goes.
    changed: watch::Sender<u64>,
    /// Shared by the undeclared topics that are in use, which counts them.
    undeclared: Arc<()>,
    /// Shared by subscriptions with wildcards: while there are any, the backend is looked at for new topics.
    wildcards: Arc<()>,
}

/// What this hub knows of topics.
#[derive(Default)]
struct Known {
    declared: FxHashMap<TopicName, Arc<Topic>>,
    /// Topics that nobody declared, while somebody uses them: anybody can ask for any name, which must not leave anything
    /// behind.
    undeclared: FxHashMap<TopicName, Weak<Topic>>,
    /// All names: declared ones and those found on the backend.
    names: BTreeSet<TopicName>,
}

impl Known {
    fn get(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.declared.get(name).cloned().or_else(|| self.undeclared.get(name)?.upgrade())
    }
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
            known: RwLock::default(),
            changed: watch::Sender::new(0),
            undeclared: Arc::default(),
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

    /// How many partitions of subscriptions the live tails have gone on without.
    pub(crate) fn stalled(&self) -> usize {
        let known = self.known.read();
        let undeclared: Vec<_> = known.undeclared.values().filter_map(Weak::upgrade).collect();
        let topics = known.declared.values().chain(&undeclared);
        topics.flat_map(|topic| &topic.partitions).filter_map(OnceLock::get).map(|open| open.tail.stalled()).sum()
    }

    /// All known names, in order.
    pub(crate) fn names(&self) -> Vec<TopicName> {
        self.known.read().names.iter().cloned().collect()
    }

    /// The topics that were created through Synapse.
    pub(crate) fn declared(&self) -> Vec<Arc<Topic>> {
        self.known.read().declared.values().cloned().collect()
    }

    /// The topic to publish to; it is created when it does not exist and that is allowed.
    pub(crate) async fn for_publish(&self, name: &TopicName) -> Result<Arc<Topic>> {
        if let Some(topic) = self.known.read().declared.get(name) {
            return Ok(topic.clone());
        }
        if let Some(document) = self.backend.meta().get(&key(name)).await? {
            return self.adopt(&document);
        }
        if !self.options.auto_create {
            return Err(not_found(name, "create it first (`synapse topics create`), or allow `topics.auto_create`"));
        }
        match self.create(name, self.options.default_topic.clone()).await {
            // What another program writes there stays readable.
            Err(error) if error.code() == Code::TopicExists => self.create(name, self.plain_settings()).await,
            created => created,
        }
    }

    /// The topic to read from. One that nobody made yet is empty, where topics are created by publishing.
    pub(crate) async fn for_read(&self, name: &TopicName) -> Result<Arc<Topic>> {
        if let Some(topic) = self.current(name) {
            return Ok(topic);
        }
        if let Some(document) = self.backend.meta().get(&key(name)).await? {
            return self.adopt(&document);
        }
        if !self.options.auto_create {
            return self.existing(name).await;
        }
        self.check_room(name)?;
        Ok(self.known(name))
    }

    /// Refuses another undeclared topic when as many topics are in use as there may be.
    fn check_room(&self, name: &TopicName) -> Result<()> {
        let in_use = self.known.read().declared.len() + self.undeclared_in_use();
        if in_use < self.options.limits.topics {
            return Ok(());
        }
        let what = format!(
            "{in_use} topics are in use already (`limits.topics`), so that one that nobody made cannot be read; create it, or raise the limit"
        );
        Err(Error::new(Code::Overloaded, what).topic(name.as_str()))
    }

    fn undeclared_in_use(&self) -> usize {
        Arc::strong_count(&self.undeclared) - 1
    }

    /// The topic as this hub knows it, without asking the backend.
    pub(crate) fn current(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.known.read().get(name)
    }

    /// As [`Catalog::current`]; one that was only found on the backend has the default settings.
    pub(crate) fn known(&self, name: &TopicName) -> Arc<Topic> {
        if let Some(topic) = self.current(name) {
            return topic;
        }
        let mut known = self.known.write();
        if let Some(topic) = known.get(name) {
            return topic;
        }
        // Swept when most of them are out of use, so that each costs the same however many there are.
        if known.undeclared.len() > 2 * self.undeclared_in_use() {
            known.undeclared.retain(|_, topic| topic.strong_count() > 0);
        }
        let mut topic = Topic::new(name.clone(), self.plain_settings(), 0, &self.metrics);
        topic._undeclared = Some(self.undeclared.clone());
        let topic = Arc::new(topic);
        known.undeclared.insert(name.clone(), Arc::downgrade(&topic));
        topic
    }

    /// The settings of topics that other programs write: in one partition, under the plain name.
    fn plain_settings(&self) -> TopicSettings {
        TopicSettings { partitions: 1, ..self.options.default_topic.clone() }
    }

    /// The topic, if it was declared or holds events.
    ///
    /// # Errors
    /// `topic_not_found`.
    pub(crate) async fn existing(&self, name: &TopicName) -> Result<Arc<Topic>> {
        if let Some(topic) = self.known.read().declared.get(name) {
            return Ok(topic.clone());
        }
        if let Some(document) = self.backend.meta().get(&key(name)).await? {
            return self.adopt(&document);
        }
        // A look at the log is cheap and sees what came a moment ago; a list of all topics may be neither.
        let log = self.backend.open(&PartitionId::new(name.clone(), 0), &TopicSettings::default()).await?;
        let held_events = log.bounds().await?.end > Position::START;
        if !held_events && !self.backend.list_topics().await?.contains(name) {
            return Err(not_found(name, "see `synapse topics list` for those that exist"));
        }
        Ok(self.known(name))
    }

    /// Declares a topic. Another hub may do the same at the same moment: then theirs holds.
    ///
    /// # Errors
    /// `topic_exists` when it would have several partitions and holds events that another program wrote in one: they
    /// would not be found again.
    pub(crate) async fn create(&self, name: &TopicName, settings: TopicSettings) -> Result<Arc<Topic>> {
        settings.validate().map_err(|error| error.topic(name.as_str()))?;
        if self.known.read().names.len() >= self.options.limits.topics {
            return Err(Error::new(
                Code::InvalidTopicSettings,
                format!(
                    "there are {} topics already (`limits.topics`); delete some or raise the limit",
                    self.options.limits.topics
                ),
            )
            .topic(name.as_str()));
        }
        if settings.partitions > 1 && self.holds_plain_events(name).await? {
            return match self.backend.meta().get(&key(name)).await? {
                // It was declared just now, and they are its own.
                Some(document) => self.adopt(&document),
                None => {
                    let what = "it holds events that another program wrote, in one partition; create it with one, or delete it first";
                    Err(Error::new(Code::TopicExists, what).topic(name.as_str()))
                }
            };
        }
        self.backend.create_topic(name, &settings).await?;
        let value = serde_json::to_vec(&settings).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let meta = self.backend.meta();
        match meta.put(&key(name), value.into(), Expected::Absent).await {
            Ok(version) => Ok(self.declare(Topic::new(name.clone(), settings, version, &self.metrics))),
            Err(error) if error.code() == Code::Conflict => match meta.get(&key(name)).await? {
                Some(document) => self.adopt(&document),
                None => Err(error.topic(name.as_str())),
            },
            Err(error) => Err(error.topic(name.as_str())),
        }
    }

    /// Whether the topic holds events where other programs write and look for them.
    async fn holds_plain_events(&self, name: &TopicName) -> Result<bool> {
        let log = self.backend.open(&PartitionId::new(name.clone(), 0), &self.plain_settings()).await?;
        match log.bounds().await {
            Ok(bounds) => Ok(bounds.latest.is_some()),
            // Something else has that name on the backend, which partitions do not touch.
            Err(error) if error.code() == Code::BackendWrongType => Ok(false),
            Err(error) => Err(error.topic(name.as_str())),
        }
    }

    /// Deletes a topic with all its events.
    pub(crate) async fn delete(&self, name: &TopicName) -> Result<()> {
        let topic = self.existing(name).await?;
        self.backend.meta().delete(&key(name), Expected::Any).await?;
        self.backend.delete_topic(name, &topic.settings).await?;
        self.forget(name, |known| known.revision <= topic.revision);
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
        // What is read for all at once may be more than what one of them is handed.
        let read = ReadLimits { batch_events_max: limits.delivery_events, batch_bytes_max: limits.tail_bytes / 4 };
        let tail = Tail::new(id, log.clone(), topic.metrics.clone(), limits.tail_bytes, read);
        Ok(slot.get_or_init(|| Partition { log, tail }).clone())
    }

    /// Looks at the backend for topics that other programs made.
    pub(crate) async fn discover(&self) -> Result<()> {
        let found = self.backend.list_topics().await?;
        let new = {
            let names = &mut self.known.write().names;
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
                    // One that nobody declared was not meant, and one that is newer was made since.
                    self.forget(&name, |known| known.declared() && known.revision < change.revision);
                }
            }
        }
    }

    fn adopt(&self, document: &Document) -> Result<Arc<Topic>> {
        let name: TopicName = document.key.trim_start_matches(TOPIC_KEYS).parse()?;
        if let Some(topic) = self.known.read().declared.get(&name)
            && topic.revision >= document.version
        {
            return Ok(topic.clone());
        }
        let settings: TopicSettings = serde_json::from_slice(&document.value).map_err(|error| {
            let what = format!("its stored settings cannot be read ({error}); was it made by a newer version?");
            Error::new(Code::InvalidTopicSettings, what).topic(name.as_str())
        })?;
        Ok(self.declare(Topic::new(name, settings, document.version, &self.metrics)))
    }

    fn declare(&self, topic: Topic) -> Arc<Topic> {
        let topic = {
            let mut known = self.known.write();
            match known.get(&topic.name) {
                Some(other) if other.revision >= topic.revision => return other,
                // Settings are written once: where there are others now, the topic was deleted in between.
                Some(other) => other.end(if other.declared() { Fate::Deleted } else { Fate::Declared }),
                None => {}
            }
            let topic = Arc::new(topic);
            known.undeclared.remove(&topic.name);
            known.declared.insert(topic.name.clone(), topic.clone());
            known.names.insert(topic.name.clone());
            topic
        };
        self.changed.send_modify(|version| *version += 1);
        topic
    }

    /// Forgets a topic that was deleted, unless the one that is known now is another.
    fn forget(&self, name: &TopicName, is_deleted: impl Fn(&Topic) -> bool) {
        {
            let mut known = self.known.write();
            if let Some(topic) = known.get(name) {
                if !is_deleted(&topic) {
                    return;
                }
                topic.end(Fate::Deleted);
            }
            known.declared.remove(name);
            known.undeclared.remove(name);
            known.names.remove(name);
        }
        self.changed.send_modify(|version| *version += 1);
    }
}

impl Topic {
    fn new(name: TopicName, settings: TopicSettings, revision: u64, metrics: &Arc<Metrics>) -> Self {
        let partitions = (0..settings.partitions).map(|_| OnceLock::new()).collect();
        let metrics = Arc::new(metrics.topic(&name));
        Self {
            name,
            settings,
            revision,
            metrics,
            fate: OnceLock::new(),
            _undeclared: None,
            partitions,
            opening: tokio::sync::Mutex::new(()),
        }
    }

    fn end(&self, fate: Fate) {
        // The first fate is the one that counts: nobody finds the topic in the catalog after it.
        let _ = self.fate.set(fate);
    }
}

fn not_found(name: &TopicName, advice: &str) -> Error {
    Error::new(Code::TopicNotFound, format!("there is no such topic; {advice}")).topic(name.as_str())
}

fn key(name: &TopicName) -> String {
    format!("{TOPIC_KEYS}{name}")
}
