//! What a client keeps to resume: the positions of all partitions of a subscription.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{Code, Error, Position, TopicName};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicName,
    /// Counted from 0.
    pub partition: u32,
}

impl PartitionId {
    /// The partition `partition` of `topic`.
    pub fn new(topic: TopicName, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The positions of all partitions of a subscription as one token: reading goes on *after* them.
///
/// Clients treat the text as opaque. It is `topic/partition@position`, joined by commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor(BTreeMap<PartitionId, Position>);

impl Cursor {
    /// The longest text that is read as a cursor, in bytes.
    pub const TEXT_BYTES_MAX: usize = 1 << 20;

    /// Where reading goes on in this partition; `None` when the cursor does not know it.
    pub fn get(&self, partition: &PartitionId) -> Option<Position> {
        self.0.get(partition).copied()
    }

    /// Moves the cursor in one partition.
    pub fn set(&mut self, partition: PartitionId, after: Position) {
        self.0.insert(partition, after);
    }

    /// Forgets a partition, for instance because its topic was deleted.
    pub fn remove(&mut self, partition: &PartitionId) {
        self.0.remove(partition);
    }

    /// All partitions with their positions, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&PartitionId, Position)> {
        self.0.iter().map(|(partition, position)| (partition, *position))
    }

    /// Whether it knows no partition.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text form of all partitions but one: what follows `topic/partition@position,` in that one's cursors.
    pub fn text_without(&self, partition: &PartitionId) -> String {
        join(self.0.iter().filter(|(id, _)| *id != partition))
    }
}

fn join<'a>(entries: impl Iterator<Item = (&'a PartitionId, &'a Position)>) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    for (id, position) in entries {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{id}@{position}");
    }
    text
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join(self.0.iter()))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |what: &str| {
            let shown: String = text.chars().take(80).collect();
            Error::new(
                Code::InvalidCursor,
                format!(
                    "{shown:?} is not a cursor ({what}); use one that an event carried, or `replay_from` with a time"
                ),
            )
        };
        if text.len() > Self::TEXT_BYTES_MAX {
            return Err(invalid("too long"));
        }
        let mut cursor = Cursor::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (id, position) = part.split_once('@').ok_or_else(|| invalid("no `@` in a part"))?;
            let (topic, partition) = id.rsplit_once('/').ok_or_else(|| invalid("no `/` in a part"))?;
            let topic = topic.parse::<TopicName>().map_err(|_| invalid("a topic name that cannot be"))?;
            let partition = partition.parse().map_err(|_| invalid("a partition that is no number"))?;
            let position = position.parse().map_err(|_| invalid("a position that cannot be"))?;
            cursor.set(PartitionId::new(topic, partition), position);
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_form() {
        let mut cursor = Cursor::default();
        let id = |name: &str, n| PartitionId::new(name.parse().unwrap(), n);
        cursor.set(id("model-events", 0), Position::offset(7));
        cursor.set(id("pipeline.a:b", 3), Position::new(1_735_689_600_000, 2, 0).unwrap());
        let text = cursor.to_string();
        assert_eq!(text, "model-events/0@7,pipeline.a:b/3@1735689600000-2");
        assert_eq!(text.parse::<Cursor>().unwrap(), cursor);
        assert_eq!(cursor.text_without(&id("model-events", 0)), "pipeline.a:b/3@1735689600000-2");
    }

    #[test]
    fn garbage_is_no_cursor() {
        for text in ["x", "a@1", "a/b@1", "a/0@", "a/0@x", "ä/0@1", "a/0@1;b/0@2"] {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }
}
