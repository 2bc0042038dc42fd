//! Documents that all hubs share: a hash each, an index of their names, a counter, and a stream of changes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Error, Result,
    meta::{Change, DOCUMENT_BYTES_MAX, Document, Expected, KEY_BYTES_MAX, MetaStore},
};
use tokio::sync::mpsc;

use crate::{
    Shared,
    entry::EntryId,
    errors,
    link::Request,
    resp::{self, Cursor, Replies, View},
    scripts,
    tail::TailItem,
};

const INDEX: &str = "synapse:{synapse:meta}:index";
const REVISION: &str = "synapse:{synapse:meta}:revision";
const CHANGES: &str = "synapse:{synapse:meta}:changes";
const DOCUMENT: &str = "synapse:{synapse:meta}:document:";
const LEASE: &str = "synapse:{synapse:meta}:lease:";

/// About how many changes are remembered.
const CHANGES_MAX: &str = "10000";
/// How many changes are read at once.
const PAGE: usize = 500;
/// How often a watch looks whether somebody emptied the database.
const WATCH_CHECK: Duration = Duration::from_secs(5);
const WATCH_RETRY: Duration = Duration::from_millis(500);

/// The documents of a Redis database.
#[derive(Clone)]
pub(crate) struct Meta {
    shared: Arc<Shared>,
}

impl Meta {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn ask(&self, commands: Vec<u8>, values: u32) -> Result<Replies> {
        let request = Request::new(commands, values, self.shared.options.response_timeout);
        self.shared.control.call(request).await.inspect_err(|_| self.shared.outage.failure())
    }

    async fn change(&self, key: &str, what: &str, value: &[u8], expected: Expected) -> Result<Option<u64>> {
        let version = match expected {
            Expected::Any => "any".to_owned(),
            Expected::Absent => "absent".to_owned(),
            Expected::Version(version) => version.to_string(),
        };
        let document = format!("{DOCUMENT}{key}");
        let mut out = Vec::new();
        scripts::META_CHANGE.write(
            &mut out,
            &[document.as_bytes(), INDEX.as_bytes(), REVISION.as_bytes(), CHANGES.as_bytes()],
            &[key.as_bytes(), what.as_bytes(), value, version.as_bytes(), CHANGES_MAX.as_bytes()],
        );
        let replies = self.ask(out, 1).await?;
        let mut cursor = parts(&replies)?;
        match (cursor.bytes(), cursor.next()) {
            (Some(b"done"), Some(version)) => Ok(version.number()),
            (Some(b"absent"), _) => Ok(None),
            (Some(b"conflict"), found) => Err(conflict(key, found.and_then(View::number))),
            _ => Err(errors::unexpected("a script")),
        }
    }

    /// All documents under a prefix, and the revision at which that was so.
    async fn snapshot(&self, prefix: &str) -> Result<(u64, Vec<Document>)> {
        let mut out = Vec::new();
        let keys = [INDEX.as_bytes(), REVISION.as_bytes()];
        scripts::META_LIST.write(&mut out, &keys, &[prefix.as_bytes(), DOCUMENT.as_bytes()]);
        let replies = self.ask(out, 1).await?;
        let mut cursor = parts(&replies)?;
        let revision = cursor.next().and_then(View::number).ok_or_else(|| errors::unexpected("a script"))?;
        let mut documents = Vec::new();
        while let (Some(key), Some(version), Some(value)) = (cursor.bytes(), cursor.next(), cursor.bytes()) {
            documents.push(Document {
                key: String::from_utf8_lossy(key).into_owned(),
                value: Bytes::copy_from_slice(value),
                version: version.number().unwrap_or_default(),
            });
        }
        documents.sort_by(|a, b| a.key.cmp(&b.key));
        Ok((revision, documents))
    }

    /// The documents as they are now, in the order of their keys here.
    async fn documents(&self, keys: &[String]) -> Result<Vec<Option<Document>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        for key in keys {
            let hash = format!("{DOCUMENT}{key}");
            resp::command(&mut out, &[b"HMGET", hash.as_bytes(), b"version", b"value"]);
        }
        let replies = self.ask(out, keys.len() as u32).await?;
        let mut cursor = replies.cursor();
        keys.iter().map(|key| document(key, &mut cursor)).collect()
    }
}

#[async_trait]
impl MetaStore for Meta {
    async fn get(&self, key: &str) -> Result<Option<Document>> {
        check_key(key)?;
        Ok(self.documents(&[key.to_owned()]).await?.pop().flatten())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Document>> {
        Ok(self.snapshot(prefix).await?.1)
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected) -> Result<u64> {
        check_key(key)?;
        if value.len() > DOCUMENT_BYTES_MAX {
            let what =
                format!("the document {key} has {} bytes; at most {DOCUMENT_BYTES_MAX} are allowed", value.len());
            return Err(Error::new(Code::InvalidArgument, what));
        }
        self.change(key, "put", &value, expected).await?.ok_or_else(|| errors::unexpected("a script"))
    }

    async fn delete(&self, key: &str, expected: Expected) -> Result<bool> {
        check_key(key)?;
        Ok(self.change(key, "delete", b"", expected).await?.is_some())
    }

    async fn lease(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        check_key(key)?;
        let mut out = Vec::new();
        let millis = ttl.as_millis().max(1).to_string();
        let lease = format!("{LEASE}{key}");
        scripts::LEASE.write(&mut out, &[lease.as_bytes()], &[holder.as_bytes(), millis.as_bytes()]);
        Ok(number(&self.ask(out, 1).await?)? == 1)
    }

    async fn release(&self, key: &str, holder: &str) -> Result<()> {
        check_key(key)?;
        let mut out = Vec::new();
        scripts::RELEASE.write(&mut out, &[format!("{LEASE}{key}").as_bytes()], &[holder.as_bytes()]);
        number(&self.ask(out, 1).await?).map(|_| ())
    }

    async fn revision(&self) -> Result<u64> {
        let mut out = Vec::new();
        resp::command(&mut out, &[b"GET", REVISION.as_bytes()]);
        number(&self.ask(out, 1).await?)
    }

    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Change>> {
        let watch = Watch { meta: self.clone(), prefix: prefix.to_owned(), after, live: None };
        watch.run()
    }
}

/// A watch over changes.
struct Watch {
    meta: Meta,
    prefix: String,
    /// Every change up to this revision was seen.
    after: u64,
    live: Option<mpsc::Receiver<TailItem>>,
}

impl Watch {
    fn run(mut self) -> BoxStream<'static, Result<Change>> {
        let stop = self.meta.shared.reads.clone();
        async_stream::stream! {
            let mut failing = false;
            loop {
                let step = tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(errors::shutting_down()),
                    step = self.step() => step,
                };
                match step {
                    Ok(changes) => {
                        failing = false;
                        for change in changes {
                            yield Ok(change);
                        }
                    }
                    Err(error) if error.code() == Code::ShuttingDown => {
                        yield Err(error);
                        return;
                    }
                    // An outage is reported once, however long it lasts.
                    Err(error) => {
                        self.live = None;
                        if !std::mem::replace(&mut failing, true) {
                            yield Err(error);
                        }
                        tokio::time::sleep(WATCH_RETRY).await;
                    }
                }
            }
        }
        .boxed()
    }

    async fn step(&mut self) -> Result<Vec<Change>> {
        let Some(live) = &mut self.live else { return self.catch_up().await };
        match tokio::time::timeout(WATCH_CHECK, live.recv()).await {
            Ok(Some(TailItem::Entries(replies, place))) => {
                let named = read_changes(&mut replies.cursor_at(place))?;
                self.take(named).await
            }
            Ok(Some(TailItem::Lost(error) | TailItem::Failed(error))) => Err(error),
            Ok(Some(TailItem::Snapshot { .. })) => Ok(Vec::new()),
            Ok(None) => {
                self.live = None;
                Ok(Vec::new())
            }
            Err(_) if self.meta.revision().await? < self.after => self.start_over().await,
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Reads what the stream of changes has, and follows it when that is all.
    async fn catch_up(&mut self) -> Result<Vec<Change>> {
        let mut out = Vec::new();
        let from = format!("({}-0", self.after);
        let count = PAGE.to_string();
        resp::command(&mut out, &[b"MULTI"]);
        resp::command(&mut out, &[b"GET", REVISION.as_bytes()]);
        resp::command(&mut out, &[b"XRANGE", CHANGES.as_bytes(), b"-", b"+", b"COUNT", b"1"]);
        resp::command(&mut out, &[b"XRANGE", CHANGES.as_bytes(), from.as_bytes(), b"+", b"COUNT", count.as_bytes()]);
        resp::command(&mut out, &[b"EXEC"]);
        let replies = self.meta.ask(out, 5).await?;
        let mut cursor = replies.cursor();
        for _ in 0..4 {
            errors::refused(cursor.next())?;
        }
        cursor.array().ok_or_else(|| errors::unexpected("EXEC"))?;
        let revision = match cursor.next() {
            Some(View::Nil) => 0,
            Some(value) => value.number().ok_or_else(|| errors::unexpected("GET"))?,
            None => return Err(errors::unexpected("EXEC")),
        };
        let first = read_changes(&mut cursor)?.first().map(|(revision, _)| *revision);
        let named = read_changes(&mut cursor)?;
        let forgotten = revision > self.after && first.is_none_or(|first| first > self.after + 1);
        if revision < self.after || forgotten {
            return self.start_over().await;
        }
        if named.len() < PAGE {
            self.live = Some(self.meta.shared.tail.follow(CHANGES, None, EntryId { ms: self.after, seq: 0 }));
        }
        self.take(named).await
    }

    /// Every document as it is: what happened since `after` is not known any more.
    async fn start_over(&mut self) -> Result<Vec<Change>> {
        let (revision, mut documents) = self.meta.snapshot(&self.prefix).await?;
        self.after = revision;
        self.live = None;
        documents.sort_by_key(|document| document.version);
        let changes = documents.into_iter().map(|document| Change {
            revision: document.version,
            key: document.key.clone(),
            document: Some(document),
        });
        Ok(changes.collect())
    }

    /// Looks up the documents that changed. Several changes of one are seen as the last of them.
    async fn take(&mut self, named: Vec<(u64, String)>) -> Result<Vec<Change>> {
        let last = named.last().map(|(revision, _)| *revision);
        let mut latest: FxHashMap<String, u64> = FxHashMap::default();
        for (revision, key) in named {
            if revision > self.after && key.starts_with(&self.prefix) {
                latest.insert(key, revision);
            }
        }
        let mut changed: Vec<(u64, String)> = latest.into_iter().map(|(key, revision)| (revision, key)).collect();
        changed.sort();
        let keys: Vec<String> = changed.iter().map(|(_, key)| key.clone()).collect();
        let mut documents = VecDeque::from(self.meta.documents(&keys).await?);
        // Only now, so that what failed is read again.
        self.after = self.after.max(last.unwrap_or_default());
        let changes = changed.into_iter().map(|(revision, key)| {
            let document = documents.pop_front().flatten();
            Change { revision, key, document }
        });
        Ok(changes.collect())
    }
}

/// The revisions and keys in the array of changes that comes next.
fn read_changes(cursor: &mut Cursor<'_>) -> Result<Vec<(u64, String)>> {
    errors::refused(cursor.peek())?;
    let count = cursor.array().unwrap_or_default();
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        let mut entry = *cursor;
        cursor.pass();
        entry.array();
        let id = entry.bytes().and_then(EntryId::parse).ok_or_else(|| errors::unexpected("XRANGE"))?;
        entry.array();
        entry.next();
        let key = entry.bytes().unwrap_or_default();
        changes.push((id.ms, String::from_utf8_lossy(key).into_owned()));
    }
    Ok(changes)
}

/// The document in the reply that comes next.
fn document(key: &str, cursor: &mut Cursor<'_>) -> Result<Option<Document>> {
    if cursor.array().is_none() {
        errors::refused(cursor.next())?;
        return Err(errors::unexpected("HMGET"));
    }
    let (version, value) = (cursor.next(), cursor.next());
    Ok(match (version.and_then(View::number), value.and_then(View::bytes)) {
        (Some(version), Some(value)) => {
            Some(Document { key: key.to_owned(), value: Bytes::copy_from_slice(value), version })
        }
        _ => None,
    })
}

/// A walk over the parts of a reply that is an array.
fn parts(replies: &Replies) -> Result<Cursor<'_>> {
    let mut cursor = replies.cursor();
    if cursor.array().is_none() {
        errors::refused(cursor.next())?;
        return Err(errors::unexpected("a script"));
    }
    Ok(cursor)
}

fn number(replies: &Replies) -> Result<u64> {
    match replies.cursor().next() {
        Some(View::Nil) => Ok(0),
        Some(View::Error(text)) => Err(errors::from_redis(text)),
        Some(value) => value.number().ok_or_else(|| errors::unexpected("a question for a number")),
        None => Err(errors::unexpected("a question for a number")),
    }
}

fn conflict(key: &str, found: Option<u64>) -> Error {
    let is = found.map_or("it does not exist".to_owned(), |version| format!("it has version {version}"));
    Error::new(Code::Conflict, format!("the document {key} is not as expected: {is}; read it again"))
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let what = format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len());
        return Err(Error::new(Code::InvalidArgument, what));
    }
    Ok(())
}
