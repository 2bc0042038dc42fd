//! Topics: which there are, and how one is deleted.

use std::{
    collections::BTreeSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use synapse_hub_core::{Code, Error, PartitionId, Result, TopicName, TopicSettings};

use crate::{
    Shared, errors,
    keys::{Keys, RESERVED},
    link::Request,
    resp::{self, Replies, View},
};

/// For how long a list of topics is good.
const LIST_FRESH: Duration = Duration::from_secs(1);
/// Looking through all keys of a large database takes long: it is not done more often than this many times as long.
const LIST_REST_FACTOR: u32 = 5;
/// How many keys are looked at between other work of Redis.
const SCAN_COUNT: &[u8] = b"1000";
/// For how long readers on other hubs may learn that a topic was deleted.
const DELETION_KNOWN: Duration = Duration::from_secs(24 * 3600);

/// The list of topics as it was.
#[derive(Debug)]
pub(crate) struct Listed {
    topics: Vec<TopicName>,
    until: Instant,
    /// How many changes of topics this hub had made when the list was made.
    changes: u64,
}

/// All topics that have a stream, in order of name.
pub(crate) async fn list(shared: &Shared) -> Result<Vec<TopicName>> {
    // Whoever comes while the list is made waits for it.
    let mut listed = shared.listed.lock().await;
    let changes = shared.topic_changes.load(Ordering::Acquire);
    if let Some(listed) = &*listed
        && listed.until > Instant::now()
        && listed.changes == changes
    {
        return Ok(listed.topics.clone());
    }
    let started = Instant::now();
    let mut topics = BTreeSet::new();
    scan(shared, &[b"TYPE", b"stream"], |key| {
        if let Some(topic) =
            std::str::from_utf8(key).ok().filter(|key| !key.starts_with(RESERVED)).and_then(Keys::topic_of)
        {
            topics.insert(topic);
        }
    })
    .await?;
    let topics: Vec<TopicName> = topics.into_iter().collect();
    let rest = LIST_FRESH.max(started.elapsed() * LIST_REST_FACTOR);
    *listed = Some(Listed { topics: topics.clone(), until: Instant::now() + rest, changes });
    Ok(topics)
}

/// Checks that the keys of a topic are free or streams. Streams come into being with their first entry.
pub(crate) async fn create(shared: &Shared, name: &TopicName, settings: &TopicSettings) -> Result<()> {
    let mut out = Vec::new();
    for keys in all_keys(name, settings) {
        resp::command(&mut out, &[b"TYPE", keys.stream.as_bytes()]);
    }
    let replies = ask(shared, out, settings.partitions).await?;
    for reply in replies.cursor() {
        match reply {
            View::Simple(b"none" | b"stream") => {}
            View::Error(text) => return Err(errors::from_redis(text).topic(name.as_str())),
            _ => return Err(errors::from_redis(b"WRONGTYPE the key is not a stream").topic(name.as_str())),
        }
    }
    shared.topics_changed();
    Ok(())
}

/// Deletes a topic's streams and what is kept beside them, and tells its readers, also those of other hubs.
pub(crate) async fn delete(shared: &Shared, name: &TopicName, settings: &TopicSettings) -> Result<()> {
    let now = format!("{:?}", synapse_hub_core::Timestamp::now());
    let known = DELETION_KNOWN.as_millis().to_string();
    let all: Vec<Keys> = all_keys(name, settings).collect();
    let mut out = Vec::new();
    for keys in &all {
        resp::command(&mut out, &[b"SET", keys.deleted.as_bytes(), now.as_bytes(), b"PX", known.as_bytes()]);
        resp::command(&mut out, &[b"UNLINK", keys.stream.as_bytes(), keys.state.as_bytes()]);
    }
    check(&ask(shared, out, 2 * settings.partitions).await?)?;
    for keys in &all {
        delete_beside(shared, keys).await?;
        shared.tail.check(&keys.stream);
    }
    shared.topics_changed();
    Ok(())
}

/// Deletes what is remembered of producers and events.
async fn delete_beside(shared: &Shared, keys: &Keys) -> Result<()> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    scan(shared, &[b"MATCH", keys.pattern().as_bytes()], |key| {
        if key != keys.deleted.as_bytes() {
            found.push(key.to_vec());
        }
    })
    .await?;
    for some in found.chunks(1000) {
        let mut out = Vec::new();
        resp::array(&mut out, 1 + some.len());
        resp::bulk(&mut out, b"UNLINK");
        some.iter().for_each(|key| resp::bulk(&mut out, key));
        check(&ask(shared, out, 1).await?)?;
    }
    Ok(())
}

fn all_keys(name: &TopicName, settings: &TopicSettings) -> impl Iterator<Item = Keys> {
    let (name, partitions) = (name.clone(), settings.partitions.max(1));
    (0..partitions).map(move |partition| Keys::of(&PartitionId::new(name.clone(), partition), partitions))
}

/// Looks at all keys of the database, a portion at a time.
async fn scan(shared: &Shared, which: &[&[u8]], mut visit: impl FnMut(&[u8])) -> Result<()> {
    let mut from = b"0".to_vec();
    loop {
        let mut out = Vec::new();
        resp::command(&mut out, &[&[&b"SCAN"[..], &from, b"COUNT", SCAN_COUNT], which].concat());
        let replies = ask(shared, out, 1).await?;
        check(&replies)?;
        let mut cursor = replies.cursor();
        cursor.array();
        from = cursor.bytes().ok_or_else(|| errors::unexpected("SCAN"))?.to_vec();
        for _ in 0..cursor.array().unwrap_or_default() {
            visit(cursor.bytes().unwrap_or_default());
        }
        if from == b"0" {
            return Ok(());
        }
    }
}

async fn ask(shared: &Shared, commands: Vec<u8>, values: u32) -> Result<Replies> {
    let request = Request::new(commands, values, shared.options.response_timeout);
    shared.control.call(request).await.inspect_err(|_| shared.outage.failure())
}

fn check(replies: &Replies) -> Result<()> {
    match replies.cursor().find_map(|reply| if let View::Error(text) = reply { Some(text) } else { None }) {
        Some(text) => Err(errors::from_redis(text)),
        None => Ok(()),
    }
}

/// A partition that the topic does not have.
pub(crate) fn no_such_partition(partition: &PartitionId, settings: &TopicSettings) -> Error {
    let what = format!("there is no partition {}; the topic has {}", partition.partition, settings.partitions);
    Error::new(Code::InvalidArgument, what).topic(partition.topic.as_str())
}
