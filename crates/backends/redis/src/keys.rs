//! The names of keys in Redis.
//!
//! A topic with one partition is the plain key `topic`, one with several is `topic:{0}`, `topic:{1}`, …. What Synapse
//! keeps beside a stream has names that start with `synapse:`, which no topic has, and carries the hash tag of the stream,
//! so that one script may use both on a cluster: `synapse:{topic}:…` and `synapse:{0}@topic:…` (`@` is in no topic name,
//! so that a topic called `0` has other keys).

use synapse_hub_core::{PartitionId, TopicName};

/// What the keys that are no streams of topics start with.
pub(crate) const RESERVED: &str = "synapse:";

/// The keys of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    /// The stream.
    pub(crate) stream: String,
    /// A hash of what is known of the stream: what was trimmed and what was taken out again.
    pub(crate) state: String,
    /// Set when the topic is deleted, so that readers elsewhere learn of it.
    pub(crate) deleted: String,
    /// What the keys of recently stored events start with.
    pub(crate) dedup: String,
    prefix: String,
}

impl Keys {
    pub(crate) fn of(partition: &PartitionId, partitions: u32) -> Self {
        let (topic, number) = (&partition.topic, partition.partition);
        let (stream, prefix) = if partitions <= 1 {
            (topic.to_string(), format!("{RESERVED}{{{topic}}}:"))
        } else {
            (format!("{topic}:{{{number}}}"), format!("{RESERVED}{{{number}}}@{topic}:"))
        };
        let key = |name: &str| format!("{prefix}{name}");
        Self { stream, state: key("state"), deleted: key("deleted"), dedup: key("dedup:"), prefix }
    }

    /// What is remembered of a producer.
    pub(crate) fn producer(&self, id: &str) -> String {
        format!("{}producer:{id}", self.prefix)
    }

    /// A pattern that matches all keys of this partition but the stream.
    pub(crate) fn pattern(&self) -> String {
        // No character of a topic name means something in a pattern.
        format!("{}*", self.prefix)
    }

    /// The topic that a stream's key belongs to; `None` when it cannot be a topic's.
    pub(crate) fn topic_of(stream: &str) -> Option<TopicName> {
        let name = match stream.strip_suffix('}').and_then(|rest| rest.rsplit_once(":{")) {
            Some((name, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => stream,
        };
        name.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_partition_share_its_hash_tag_and_no_other_topic_has_them() {
        let id = |name: &str, n| PartitionId::new(name.parse().unwrap(), n);
        let one = Keys::of(&id("orders", 0), 1);
        assert_eq!(one.stream, "orders");
        assert_eq!(one.producer("p"), "synapse:{orders}:producer:p");
        let several = Keys::of(&id("orders", 2), 3);
        assert_eq!(several.stream, "orders:{2}");
        assert_eq!(several.state, "synapse:{2}@orders:state");
        assert_ne!(Keys::of(&id("0", 0), 1).pattern(), Keys::of(&id("0", 0), 2).pattern());
    }

    #[test]
    fn topics_are_told_from_their_streams() {
        for (key, topic) in [
            ("orders", Some("orders")),
            ("orders:{12}", Some("orders")),
            ("a:b", Some("a:b")),
            ("orders:{x}", None),
            ("orders:{}", None),
            ("synapse:{orders}:state", None),
            ("with space", None),
        ] {
            assert_eq!(Keys::topic_of(key).map(|topic| topic.to_string()).as_deref(), topic, "{key}");
        }
    }
}
