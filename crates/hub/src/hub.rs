//! The hub itself: what the server holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use synapse_hub_core::{
    Durability, Result, TopicSettings,
    backend::{Backend, Health},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits, Metrics, Pending, Publication, SubscribeRequest, Subscription, Topics, catalog::Catalog, publish,
    retention, subscription,
};

/// How often the backend's health and durability are looked at.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);

/// How a hub behaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubOptions {
    /// The limits.
    pub limits: Limits,
    /// Publishing to a topic that does not exist creates it.
    pub auto_create: bool,
    /// The settings of topics that are created so.
    pub default_topic: TopicSettings,
    /// Names this hub among those that share a backend.
    pub hub_id: String,
    /// How often the backend is asked for topics that other programs made, while wildcard subscriptions are open.
    #[serde(with = "seconds")]
    pub topic_discovery: Duration,
    /// How often retention is enforced.
    #[serde(with = "seconds")]
    pub retention_interval: Duration,
    /// How long a subscription is silent before it gets a heartbeat with its cursor.
    #[serde(with = "seconds")]
    pub heartbeat: Duration,
    /// The `source` of events that have none.
    pub default_source: ByteString,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            auto_create: true,
            default_topic: TopicSettings::default(),
            hub_id: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned(),
            topic_discovery: Duration::from_secs(5),
            retention_interval: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
            default_source: ByteString::from_static("unknown"),
        }
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// A hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
    topics: Topics,
}

pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) options: HubOptions,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) stop: CancellationToken,
    pub(crate) spread: publish::Spread,
    pub(crate) open_subscriptions: AtomicUsize,
    pub(crate) next_subscription: AtomicU64,
    /// What each durability level means now, by level.
    guarantees: ArcSwap<[(Arc<str>, Durability); 3]>,
    started: Instant,
}

/// Whether the hub can do its work.
#[derive(Debug, Clone)]
pub struct HubHealth {
    /// It is not stopping, and the backend can be read and written.
    pub ready: bool,
    /// The backend's name.
    pub backend: &'static str,
    /// The backend's health.
    pub health: Health,
}

impl Inner {
    /// What a durability level means, in words, and the level that is given.
    pub(crate) async fn guarantee(&self, durability: Durability) -> (Arc<str>, Durability) {
        self.guarantees.load()[durability as usize].clone()
    }

    async fn refresh_guarantees(&self) {
        let mut guarantees = (**self.guarantees.load()).clone();
        for durability in [Durability::Memory, Durability::Stored, Durability::Synced] {
            if let Ok(guarantee) = self.backend.guarantee(durability).await {
                guarantees[durability as usize] = (guarantee.text.into(), guarantee.level);
            }
        }
        self.guarantees.store(Arc::new(guarantees));
    }

    async fn watch_health(self: Arc<Self>) {
        let mut up = true;
        loop {
            let health = self.backend.health().await;
            self.metrics.backend_health(&health);
            self.metrics.stalled.set(self.catalog.stalled() as i64);
            let now = health.readable && health.writable;
            match (up, now) {
                (true, false) => {
                    tracing::error!(backend = self.backend.name(), notes = ?health.notes, "the backend cannot be used")
                }
                (false, true) => tracing::info!(backend = self.backend.name(), "the backend can be used again"),
                _ => {}
            }
            up = now;
            if now {
                self.refresh_guarantees().await;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(HEALTH_INTERVAL) => {}
            }
        }
    }
}

impl Hub {
    /// Starts a hub on a backend.
    ///
    /// # Errors
    /// When the backend cannot be read.
    pub async fn start(backend: Arc<dyn Backend>, options: HubOptions) -> Result<Self> {
        let metrics = Metrics::new(&options.limits, &options.hub_id, backend.name());
        let stop = CancellationToken::new();
        let catalog = Catalog::start(backend.clone(), options.clone(), metrics.clone(), stop.clone()).await?;
        let unknown = |durability| (Arc::from("not known yet"), durability);
        let inner = Arc::new(Inner {
            backend,
            options,
            metrics,
            catalog,
            stop,
            spread: publish::Spread::default(),
            open_subscriptions: AtomicUsize::new(0),
            next_subscription: AtomicU64::new(1),
            guarantees: ArcSwap::from_pointee([
                unknown(Durability::Memory),
                unknown(Durability::Stored),
                unknown(Durability::Synced),
            ]),
            started: Instant::now(),
        });
        inner.refresh_guarantees().await;
        tokio::spawn(inner.clone().watch_health());
        tokio::spawn(retention::run(inner.clone()));
        Ok(Self { topics: Topics { hub: inner.clone() }, inner })
    }

    /// How it behaves.
    pub fn options(&self) -> &HubOptions {
        &self.inner.options
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.options.limits
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Its topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Accepts a batch. Batches of one topic that were accepted one after the other are stored in that order. Waits for
    /// room when too much is under way.
    ///
    /// # Errors
    /// Failures as a whole. Refused events are named in what the returned future resolves to.
    pub async fn publish(&self, publication: Publication) -> Result<Pending> {
        publish::publish(&self.inner, publication).await
    }

    /// Opens a subscription.
    ///
    /// # Errors
    /// `too_many_subscriptions`, `topic_not_found`, `invalid_replay_point`, `shutting_down`, and what the backend says.
    pub async fn subscribe(&self, request: SubscribeRequest) -> Result<Subscription> {
        subscription::open(self.inner.clone(), request).await
    }

    /// Whether it can do its work. Asks the backend.
    pub async fn health(&self) -> HubHealth {
        let health = self.inner.backend.health().await;
        let ready = health.readable && health.writable && !self.inner.stop.is_cancelled();
        HubHealth { ready, backend: self.inner.backend.name(), health }
    }

    /// Cancelled when the hub begins to stop.
    pub fn shutting_down(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// How many subscriptions are open.
    pub fn open_subscriptions(&self) -> usize {
        self.inner.open_subscriptions.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// For how long it has been running.
    pub fn uptime(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// Accepts nothing more, tells subscribers, and stores what was accepted, within the deadline.
    pub async fn shutdown(&self, deadline: Duration) {
        self.inner.stop.cancel();
        self.inner.backend.shutdown(deadline).await;
    }
}
