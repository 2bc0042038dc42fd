//! What the hub counts, in Prometheus' terms.
//!
//! Labels are bounded: beyond `limits.metric_topics` topics and `limits.metric_types` types of a topic, the rest share
//! the label value `other`. Handles are looked up once a topic, not once an event.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Instant,
};

use parking_lot::{Mutex, RwLock};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Event, Timestamp, TopicName,
    backend::{Gap, GapReason, Health, Record},
};

use crate::Limits;

const OTHER: &str = "other";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicType {
    topic: String,
    r#type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Topic {
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GapLabels {
    topic: String,
    reason: &'static str,
}

/// All metrics of a hub.
pub struct Metrics {
    registry: Mutex<Registry>,
    published: Family<TopicType, Counter>,
    published_bytes: Family<Topic, Counter>,
    delivered: Family<TopicType, Counter>,
    delivered_bytes: Family<Topic, Counter>,
    duplicates: Family<Topic, Counter>,
    refused: Family<Reason, Counter>,
    publish_failures: Family<Reason, Counter>,
    gaps: Family<GapLabels, Counter>,
    lost: Family<Topic, Counter>,
    log_reads: Family<Topic, Counter>,
    delivery_lag: Family<Topic, Gauge<f64, AtomicU64>>,
    /// From a batch's acceptance to its commit.
    pub(crate) append_seconds: Histogram,
    /// From the moment the log took an event to its hand-over to a subscriber that follows live.
    delivery_seconds: Histogram,
    /// Open subscriptions.
    pub(crate) subscriptions: Gauge,
    /// Partitions of subscriptions that read history rather than the live tail.
    pub(crate) reading_history: Gauge,
    /// Partitions of subscriptions that the live tail has gone on without, because nobody reads.
    pub(crate) stalled: Gauge,
    backend_errors: Counter,
    backend_reconnects: Counter,
    backend_up: Gauge,
    topics: RwLock<FxHashMap<TopicName, Arc<Handles>>>,
    topics_max: usize,
    types_max: usize,
}

impl Metrics {
    /// Metrics with nothing counted yet.
    pub fn new(limits: &Limits, hub_id: &str, backend: &'static str) -> Arc<Self> {
        let mut registry = Registry::with_prefix("synapse");
        let seconds = || Histogram::new(exponential_buckets(0.000_05, 2.0, 20));
        let metrics = Self {
            published: Family::default(),
            published_bytes: Family::default(),
            delivered: Family::default(),
            delivered_bytes: Family::default(),
            duplicates: Family::default(),
            refused: Family::default(),
            publish_failures: Family::default(),
            gaps: Family::default(),
            lost: Family::default(),
            log_reads: Family::default(),
            delivery_lag: Family::default(),
            append_seconds: seconds(),
            delivery_seconds: seconds(),
            subscriptions: Gauge::default(),
            reading_history: Gauge::default(),
            stalled: Gauge::default(),
            backend_errors: Counter::default(),
            backend_reconnects: Counter::default(),
            backend_up: Gauge::default(),
            topics: RwLock::default(),
            topics_max: limits.metric_topics,
            types_max: limits.metric_types,
            registry: Mutex::new(Registry::default()),
        };
        let info = Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("hub_id", hub_id.to_owned()),
            ("backend", backend.to_owned()),
        ]);
        registry.register("hub", "The hub's version and backend", info);
        metrics.register_all(&mut registry);
        *metrics.registry.lock() = registry;
        Arc::new(metrics)
    }

    fn register_all(&self, registry: &mut Registry) {
        registry.register("events_published", "Events stored, by topic and type", self.published.clone());
        registry.register_with_unit("published", "Bytes of stored events", Unit::Bytes, self.published_bytes.clone());
        registry.register(
            "events_delivered",
            "Events handed to subscribers, by topic and type",
            self.delivered.clone(),
        );
        registry.register_with_unit(
            "delivered",
            "Bytes of events handed to subscribers",
            Unit::Bytes,
            self.delivered_bytes.clone(),
        );
        registry.register(
            "events_deduplicated",
            "Events that were recognised and not stored again",
            self.duplicates.clone(),
        );
        registry.register("events_refused", "Events refused at the door, by reason", self.refused.clone());
        registry.register(
            "publish_failures",
            "Batches that failed as a whole, by reason",
            self.publish_failures.clone(),
        );
        registry.register("gaps", "Gaps in history that readers met", self.gaps.clone());
        registry.register("events_lost", "Events that readers missed in gaps, where known", self.lost.clone());
        registry.register("log_batches_read", "Batches read from the log for live tails", self.log_reads.clone());
        registry.register_with_unit(
            "delivery_lag",
            "Age of the latest events that were handed to those who follow live; 0 when nobody does",
            Unit::Seconds,
            self.delivery_lag.clone(),
        );
        registry.register_with_unit(
            "append",
            "From acceptance to commit of a batch",
            Unit::Seconds,
            self.append_seconds.clone(),
        );
        registry.register_with_unit(
            "delivery",
            "From the log to the hand-over to a live subscriber",
            Unit::Seconds,
            self.delivery_seconds.clone(),
        );
        registry.register("subscriptions", "Open subscriptions", self.subscriptions.clone());
        registry.register(
            "subscription_partitions_behind",
            "Partitions of subscriptions reading history",
            self.reading_history.clone(),
        );
        registry.register(
            "subscription_partitions_stalled",
            "Partitions of subscriptions whose client does not read, and which the live tail has gone on without",
            self.stalled.clone(),
        );
        registry.register("backend_errors", "Failed operations on the backend", self.backend_errors.clone());
        registry.register(
            "backend_reconnects",
            "Connections to the backend made again",
            self.backend_reconnects.clone(),
        );
        registry.register("backend_up", "Whether the backend can be read and written", self.backend_up.clone());
    }

    /// Adds metrics of another part of the server.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry.lock());
    }

    /// All metrics as OpenMetrics text.
    pub fn registry_text(&self) -> String {
        let mut text = String::new();
        // Writing to a text cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry.lock());
        text
    }

    /// Counts one refused event.
    pub fn refused(&self, code: Code) {
        self.refused.get_or_create(&Reason { code: code.as_str() }).inc();
    }

    /// Counts one batch that failed as a whole.
    pub fn publish_failed(&self, code: Code) {
        self.publish_failures.get_or_create(&Reason { code: code.as_str() }).inc();
    }

    /// The metrics of a topic.
    pub fn topic(self: &Arc<Self>, name: &TopicName) -> TopicMetrics {
        TopicMetrics { all: self.clone(), name: name.clone(), handles: OnceLock::new() }
    }

    fn handles(&self, name: &TopicName) -> Arc<Handles> {
        if let Some(handles) = self.topics.read().get(name) {
            return handles.clone();
        }
        let mut topics = self.topics.write();
        if topics.len() >= self.topics_max && !topics.contains_key(name) {
            // Not kept by name, so that any number of topics costs one entry.
            return Arc::new(Handles::new(self, OTHER));
        }
        topics.entry(name.clone()).or_insert_with(|| Arc::new(Handles::new(self, name.as_str()))).clone()
    }

    pub(crate) fn backend_health(&self, health: &Health) {
        use std::sync::atomic::Ordering::Relaxed;
        self.backend_errors.inner().store(health.errors, Relaxed);
        self.backend_reconnects.inner().store(health.reconnects, Relaxed);
        self.backend_up.set(i64::from(health.readable && health.writable));
    }
}

/// What is counted of one topic. It takes up none of the labels before there is something to count: anybody can ask for
/// any name.
pub struct TopicMetrics {
    all: Arc<Metrics>,
    name: TopicName,
    handles: OnceLock<Arc<Handles>>,
}

/// The handles of one topic.
struct Handles {
    label: String,
    published: TypeCounters,
    published_bytes: Counter,
    delivered: TypeCounters,
    delivered_bytes: Counter,
    duplicates: Counter,
    lost: Counter,
    log_reads: Counter,
    delivery_lag: Gauge<f64, AtomicU64>,
}

impl Handles {
    fn new(all: &Metrics, label: &str) -> Self {
        let topic = Topic { topic: label.to_owned() };
        let counters = |family: &Family<TopicType, Counter>| TypeCounters {
            topic: label.to_owned(),
            family: family.clone(),
            types: RwLock::default(),
            types_max: all.types_max,
        };
        Self {
            label: label.to_owned(),
            published: counters(&all.published),
            published_bytes: all.published_bytes.get_or_create(&topic).clone(),
            delivered: counters(&all.delivered),
            delivered_bytes: all.delivered_bytes.get_or_create(&topic).clone(),
            duplicates: all.duplicates.get_or_create(&topic).clone(),
            lost: all.lost.get_or_create(&topic).clone(),
            log_reads: all.log_reads.get_or_create(&topic).clone(),
            delivery_lag: all.delivery_lag.get_or_create(&topic).clone(),
        }
    }
}

impl TopicMetrics {
    fn handles(&self) -> &Handles {
        self.handles.get_or_init(|| self.all.handles(&self.name))
    }

    pub(crate) fn count_published(&self, events: &TypeCounts, duplicates: u64) {
        let handles = self.handles();
        if duplicates < events.events {
            events.runs.iter().for_each(|(kind, count)| handles.published.add(kind, *count));
            handles.published_bytes.inc_by(events.bytes);
        }
        handles.duplicates.inc_by(duplicates);
    }

    /// Counts what a subscriber was handed; `live` says that it follows the tail.
    pub(crate) fn count_delivered<'a>(&self, records: impl Iterator<Item = &'a Record>, live: bool) {
        let handles = self.handles();
        let mut counts = TypeCounts::default();
        let mut latest = None;
        for record in records {
            counts.add(&record.event);
            latest = Some(record.stored);
        }
        counts.runs.iter().for_each(|(kind, count)| handles.delivered.add(kind, *count));
        handles.delivered_bytes.inc_by(counts.bytes);
        // What is replayed is old, and says nothing of how the hub keeps up.
        if let Some(stored) = latest.filter(|_| live) {
            let age = Timestamp::now().as_nanos().saturating_sub(stored.as_nanos()).max(0) as f64 / 1e9;
            handles.delivery_lag.set(age);
            self.all.delivery_seconds.observe(age);
        }
    }

    /// One more batch was read for the live tail.
    pub(crate) fn count_log_read(&self) {
        self.handles().log_reads.inc();
    }

    /// Nobody follows the topic any more, and so nobody lags.
    pub(crate) fn nobody_follows(&self) {
        if let Some(handles) = self.handles.get() {
            handles.delivery_lag.set(0.0);
        }
    }

    pub(crate) fn count_gap(&self, gap: &Gap) {
        let handles = self.handles();
        let labels = GapLabels { topic: handles.label.clone(), reason: GapReason::as_str(gap.reason) };
        self.all.gaps.get_or_create(&labels).inc();
        handles.lost.inc_by(gap.lost.unwrap_or(0));
    }
}

/// How many events of which type, as runs, so that a batch of one type is counted at once.
#[derive(Debug, Default)]
pub(crate) struct TypeCounts {
    runs: Vec<(bytestring::ByteString, u64)>,
    bytes: u64,
    events: u64,
}

impl TypeCounts {
    pub(crate) fn add(&mut self, event: &Event) {
        self.bytes += event.size() as u64;
        self.events += 1;
        match self.runs.last_mut() {
            Some((kind, count)) if kind == event.kind() => *count += 1,
            _ => self.runs.push((event.kind().clone(), 1)),
        }
    }
}

struct TypeCounters {
    topic: String,
    family: Family<TopicType, Counter>,
    types: RwLock<FxHashMap<String, Counter>>,
    types_max: usize,
}

impl TypeCounters {
    fn add(&self, kind: &str, count: u64) {
        if let Some(counter) = self.types.read().get(kind) {
            counter.inc_by(count);
            return;
        }
        let mut types = self.types.write();
        let label = if types.len() < self.types_max { kind } else { OTHER };
        let key = TopicType { topic: self.topic.clone(), r#type: label.to_owned() };
        let counter = types.entry(label.to_owned()).or_insert_with(|| self.family.get_or_create(&key).clone());
        counter.inc_by(count);
    }
}

/// Measures from its making to [`Timer::observe`].
pub(crate) struct Timer(Instant);

impl Timer {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn observe(self, histogram: &Histogram) {
        histogram.observe(self.0.elapsed().as_secs_f64());
    }
}
