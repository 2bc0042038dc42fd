//! The topics that exist, and the ids that their data goes by.
//!
//! A topic gets its id when it is created or with the first write to it, and another one when it comes again after it was
//! deleted. Only the writer gives ids.

use fjall::{OwnedWriteBatch, PersistMode};
use rustc_hash::FxHashMap;
use synapse_hub_core::{Result, TopicName};

use crate::{
    keys::{DELETED, FIRST_NAME, LATEST_ID, PartitionState, deleted_key, word},
    store::{Engine, failed},
};

/// The id of a topic; `None` when there is no such topic.
pub(crate) fn topic_id(engine: &Engine, name: &TopicName) -> Result<Option<u64>> {
    number(engine, name.as_str().as_bytes())
}

fn number(engine: &Engine, key: &[u8]) -> Result<Option<u64>> {
    Ok(engine.catalog.get(key).map_err(failed)?.and_then(|id| word(&id, 0)))
}

/// Topics that come into being with a write.
#[derive(Default)]
pub(crate) struct NewTopics {
    ids: FxHashMap<TopicName, u64>,
    /// The latest id that was given.
    latest: Option<u64>,
}

impl NewTopics {
    /// The id of a topic, which is given when it has none.
    pub(crate) fn id(&mut self, engine: &Engine, name: &TopicName) -> Result<u64> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        if let Some(id) = topic_id(engine, name)? {
            return Ok(id);
        }
        let latest = match self.latest {
            Some(latest) => latest,
            None => number(engine, LATEST_ID)?.unwrap_or(0),
        };
        self.latest = Some(latest + 1);
        self.ids.insert(name.clone(), latest + 1);
        Ok(latest + 1)
    }

    /// Adds a topic to what is written, if it got its id here.
    pub(crate) fn write(&self, engine: &Engine, batch: &mut OwnedWriteBatch, name: &TopicName) {
        if let (Some(id), Some(latest)) = (self.ids.get(name), self.latest) {
            batch.insert(&engine.catalog, name.as_str(), id.to_be_bytes().as_slice());
            batch.insert(&engine.catalog, LATEST_ID, latest.to_be_bytes().as_slice());
        }
    }
}

/// Creates a topic, unless it exists.
pub(crate) fn create(engine: &Engine, name: &TopicName) -> Result<()> {
    let mut topics = NewTopics::default();
    topics.id(engine, name)?;
    let mut batch = engine.database.batch();
    topics.write(engine, &mut batch, name);
    if batch.is_empty() { Ok(()) } else { engine.commit(batch, Some(PersistMode::Buffer)) }
}

/// Takes a topic out of the catalog. Its id is returned, under which its data is still to be removed.
pub(crate) fn remove(engine: &Engine, name: &TopicName) -> Result<Option<u64>> {
    let Some(topic) = topic_id(engine, name)? else { return Ok(None) };
    let mut batch = engine.database.batch();
    batch.remove(&engine.catalog, name.as_str());
    batch.insert(&engine.catalog, deleted_key(topic), []);
    engine.commit(batch, Some(PersistMode::Buffer))?;
    Ok(Some(topic))
}

/// The topics whose data a hub that stopped had not removed yet.
pub(crate) fn deleted_topics(engine: &Engine) -> Result<Vec<u64>> {
    let keys = engine.catalog.prefix(DELETED).map(|guard| guard.key().map_err(failed));
    keys.map(|key| Ok(word(&key?, DELETED.len()).unwrap_or_default())).collect()
}

/// The topics that hold or held events, in order of name.
pub(crate) fn used_topics(engine: &Engine) -> Result<Vec<TopicName>> {
    let mut names = Vec::new();
    for guard in engine.catalog.range(FIRST_NAME..) {
        let (key, id) = guard.into_inner().map_err(failed)?;
        let Some(Ok(name)) = std::str::from_utf8(&key).ok().map(str::parse) else { continue };
        if was_used(engine, word(&id, 0).unwrap_or_default()) {
            names.push(name);
        }
    }
    Ok(names)
}

fn was_used(engine: &Engine, topic: u64) -> bool {
    engine.state.prefix(topic.to_be_bytes()).any(|guard| {
        let state = guard.into_inner().ok().and_then(|(_, value)| PartitionState::decode(&value));
        state.is_some_and(|state| state.last > 0)
    })
}
