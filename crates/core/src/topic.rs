//! Topic names, patterns over them, and settings.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Code, Error};

/// The longest topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The name of a topic: ASCII letters, digits, `.`, `_`, `-`, `:`, up to 249. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: String| {
            let shown: String = text.chars().take(80).collect();
            Error::new(Code::InvalidTopic, format!("{shown:?} is no topic name: {why}"))
        };
        if text.is_empty() {
            return Err(invalid("it is empty".into()));
        }
        if text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(invalid(format!("it has {} bytes, at most {TOPIC_NAME_BYTES_MAX} are allowed", text.len())));
        }
        if let Some(bad) = text.chars().find(|&c| !(c.is_ascii_alphanumeric() || ".-_:".contains(c))) {
            return Err(invalid(format!("{bad:?} is not allowed; use ASCII letters, digits, `.`, `_`, `-` and `:`")));
        }
        if text == "." || text == ".." {
            return Err(invalid("it is a folder name".into()));
        }
        if text.starts_with("synapse:") {
            return Err(invalid("names that start with `synapse:` are Synapse's own".into()));
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for TopicName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0.as_ref().into()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One topic, or many: `*` stands for one token between dots, `>` for one or more and only at the end (as NATS has them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicPattern {
    /// Exactly this topic.
    Name(TopicName),
    /// All topics that match.
    Wildcard(Arc<str>),
}

impl TopicPattern {
    /// Whether the pattern names this topic.
    pub fn matches(&self, name: &TopicName) -> bool {
        match self {
            Self::Name(only) => only == name,
            Self::Wildcard(pattern) => {
                let mut tokens = name.as_str().split('.');
                for wanted in pattern.split('.') {
                    match (wanted, tokens.next()) {
                        (">", Some(_)) => return true,
                        ("*", Some(token)) if !token.is_empty() => {}
                        (wanted, Some(token)) if wanted == token => {}
                        _ => return false,
                    }
                }
                tokens.next().is_none()
            }
        }
    }
}

impl FromStr for TopicPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if !text.contains(['*', '>']) {
            return text.parse().map(Self::Name);
        }
        let invalid = |why: &str| Error::new(Code::InvalidTopic, format!("{text:?} is no topic pattern: {why}"));
        let tokens: Vec<&str> = text.split('.').collect();
        for (index, token) in tokens.iter().enumerate() {
            if *token == ">" && index + 1 != tokens.len() {
                return Err(invalid("`>` may only be the last token"));
            }
            if token.len() > 1 && token.contains(['*', '>']) {
                return Err(invalid("`*` and `>` stand for whole tokens between dots"));
            }
            if token.is_empty() {
                return Err(invalid("a token between dots is empty"));
            }
        }
        // The rest of it must be a possible name.
        text.replace(['*', '>'], "x").parse::<TopicName>().map_err(|error| invalid(error.message()))?;
        Ok(Self::Wildcard(text.into()))
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Wildcard(pattern) => f.write_str(pattern),
        }
    }
}

/// What an acknowledgement of a publish promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the memory of the hub or the backend.
    Memory,
    /// Survives the death of the hub; may be lost when the machine loses power.
    #[default]
    Stored,
    /// On stable storage.
    Synced,
}

/// How events lie in the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One entry an event, readable by every direct client of the backend.
    #[default]
    Flat,
    /// One entry a batch.
    Packed,
}

/// The settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicSettings {
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// What an acknowledgement promises, unless a request asks for another level.
    pub durability: Durability,
    /// How events lie in a backend that has a choice.
    pub layout: Layout,
    /// The same `source` and `id` within this window are stored once.
    #[serde(rename = "dedup_window_ms", with = "optional_millis")]
    pub dedup_window: Option<Duration>,
    /// Events older than this are removed.
    #[serde(rename = "retention_ms", with = "optional_millis")]
    pub retention_time: Option<Duration>,
    /// The oldest events are removed once a partition holds more bytes than this.
    pub retention_bytes: Option<u64>,
    /// The oldest events are removed once a partition holds more events than this.
    pub retention_events: Option<u64>,
}

impl TopicSettings {
    /// The most partitions a topic may have.
    pub const PARTITIONS_MAX: u32 = 1024;

    /// # Errors
    /// `invalid_topic_settings` naming the setting.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |field: &str, why: String| Err(Error::new(Code::InvalidTopicSettings, why).field(field));
        if self.partitions == 0 || self.partitions > Self::PARTITIONS_MAX {
            let why = format!("{} partitions; from 1 to {} are possible", self.partitions, Self::PARTITIONS_MAX);
            return invalid("partitions", why);
        }
        if self.dedup_window.is_some_and(|window| window > Duration::from_secs(7 * 86_400)) {
            return invalid("dedup_window_ms", "a deduplication window has at most 7 days".into());
        }
        Ok(())
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            partitions: 1,
            durability: Durability::default(),
            layout: Layout::default(),
            dedup_window: None,
            retention_time: None,
            retention_bytes: None,
            retention_events: None,
        }
    }
}

mod optional_millis {
    use super::{Deserialize, Duration};
    use serde::{Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|duration| duration.as_millis() as u64).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.filter(|&millis| millis > 0).map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_tokens() {
        for (pattern, name, expected) in [
            ("pipeline.*", "pipeline.a", true),
            ("pipeline.*", "pipeline.a.b", false),
            ("pipeline.*", "pipeline", false),
            ("document.>", "document.a.b", true),
            ("document.>", "document", false),
            ("*.a", "b.a", true),
            ("*.a", "b.b", false),
            (">", "anything.at.all", true),
            ("model-events", "model-events", true),
            ("model-events", "model-event", false),
        ] {
            let pattern: TopicPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&name.parse().unwrap()), expected, "{pattern} {name}");
        }
        for text in ["a.>.b", "a*", "a..*", "ä.*", ""] {
            assert!(text.parse::<TopicPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for text in ["", "a b", "ä", "a/b", "..", "synapse:x", "a,b", "a@b", &"x".repeat(250)] {
            assert!(text.parse::<TopicName>().is_err(), "{text:?}");
        }
        assert!("x".repeat(249).parse::<TopicName>().is_ok());
    }
}
