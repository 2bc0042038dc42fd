//! Every limit of the hub, by the name it has in the configuration (`limits.…`).

use serde::{Deserialize, Serialize};

/// The hub's limits: the `[limits]` table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest request body, also after decompression, in bytes.
    pub body_bytes: usize,
    /// The largest event, in bytes.
    pub event_bytes: usize,
    /// The longest `id`, `source`, `event` and `correlation_id` of an event, in bytes each.
    pub attribute_bytes: usize,
    /// The most events in one request.
    pub batch_events: usize,
    /// How deep the JSON of an event may nest.
    pub json_depth: usize,
    /// The most patterns in one subscription.
    pub subscription_filters: usize,
    /// The most topics or topic patterns in one subscription.
    pub subscription_topics: usize,
    /// The most subscriptions at once.
    pub subscriptions: usize,
    /// The most events in one delivery.
    pub delivery_events: usize,
    /// The most bytes in one delivery, about: what is held for each subscriber that does not read, at most twice.
    pub delivery_bytes: usize,
    /// How much of a partition's latest events the hub keeps in memory for its subscribers, in bytes. A subscriber that
    /// falls further behind reads the log for itself.
    pub tail_bytes: usize,
    /// How many bytes of accepted but not yet stored events are held, before publishers wait.
    pub append_bytes: usize,
    /// How many batches of one publishing stream are under way, before the hub stops reading from it.
    pub stream_inflight_batches: usize,
    /// The most topics; publishing to a new one is refused beyond it, and so is reading one that nobody made, when so many
    /// are in use.
    pub topics: usize,
    /// How many topics have metric series of their own; the rest share the series `other`.
    pub metric_topics: usize,
    /// How many event types a topic has metric series for; the rest share the series `other`.
    pub metric_types: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 << 20,
            event_bytes: 1 << 20,
            attribute_bytes: 4096,
            batch_events: 10_000,
            json_depth: 64,
            subscription_filters: 64,
            subscription_topics: 256,
            subscriptions: 10_000,
            delivery_events: 1000,
            delivery_bytes: 128 << 10,
            tail_bytes: 4 << 20,
            append_bytes: 64 << 20,
            stream_inflight_batches: 64,
            topics: 100_000,
            metric_topics: 200,
            metric_types: 50,
        }
    }
}

impl Limits {
    /// All limits with their values, by name.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        [
            ("body_bytes", self.body_bytes),
            ("event_bytes", self.event_bytes),
            ("attribute_bytes", self.attribute_bytes),
            ("batch_events", self.batch_events),
            ("json_depth", self.json_depth),
            ("subscription_filters", self.subscription_filters),
            ("subscription_topics", self.subscription_topics),
            ("subscriptions", self.subscriptions),
            ("delivery_events", self.delivery_events),
            ("delivery_bytes", self.delivery_bytes),
            ("tail_bytes", self.tail_bytes),
            ("append_bytes", self.append_bytes),
            ("stream_inflight_batches", self.stream_inflight_batches),
            ("topics", self.topics),
            ("metric_topics", self.metric_topics),
            ("metric_types", self.metric_types),
        ]
        .map(|(name, value)| (name, value as u64))
        .into()
    }
}
