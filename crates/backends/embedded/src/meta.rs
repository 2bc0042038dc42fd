//! The MetaStore of an embedded log: documents in the keyspace `meta`, leases and the history of changes in memory.
//!
//! Only one hub can have the folder open, so that a lease needs to hold no longer than this process.
//!
//! | key | value |
//! |---|---|
//! | `d` then the document's key | version, content |
//! | `r` | the latest revision; versions are revisions, and so never used twice |

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use fjall::PersistMode;
use futures::{StreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use synapse_hub_core::{
    Code, Error, Result,
    meta::{Change, DOCUMENT_BYTES_MAX, Document, Expected, KEY_BYTES_MAX, MetaStore},
};
use tokio::sync::watch;

use crate::{
    log::{blocking, stopping},
    store::{Store, failed},
};

/// How many changes a watch may be behind before it is told of all documents instead.
const HISTORY: usize = 4096;
const REVISION_KEY: &[u8] = b"r";

pub(crate) struct Meta {
    store: Arc<Store>,
    shared: Arc<Shared>,
    /// Orders the changes.
    turn: Arc<tokio::sync::Mutex<()>>,
    stop: watch::Sender<bool>,
}

struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

struct State {
    history: VecDeque<Change>,
    /// Changes up to here are not in the history.
    forgotten: u64,
    leases: FxHashMap<String, (String, Instant)>,
}

impl Meta {
    pub(crate) fn open(store: Arc<Store>, stop: watch::Sender<bool>) -> Result<Self> {
        let stored = store.engine()?.meta.get(REVISION_KEY).map_err(failed)?;
        let revision = stored.and_then(|bytes| bytes.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes);
        let state = Mutex::new(State { history: VecDeque::new(), forgotten: revision, leases: FxHashMap::default() });
        let shared = Arc::new(Shared { state, revision: watch::Sender::new(revision) });
        Ok(Self { store, shared, turn: Arc::default(), stop })
    }

    /// Makes a change, after all that came before.
    async fn change(&self, key: &str, value: Option<Bytes>, expected: Expected) -> Result<Option<u64>> {
        let (store, shared, key) = (self.store.clone(), self.shared.clone(), key.to_owned());
        let turn = self.turn.clone().lock_owned().await;
        // The engine may stall. The turn is over when the change is made, even if nobody waits for it any more.
        blocking(move || {
            let _turn = turn;
            let Some(change) = write(&store, *shared.revision.borrow() + 1, key, value, expected)? else {
                return Ok(None);
            };
            Ok(Some(shared.publish(change)))
        })
        .await
    }
}

impl Shared {
    /// Shows a change to those who watch.
    fn publish(&self, change: Change) -> u64 {
        let revision = change.revision;
        let mut state = self.state.lock();
        state.history.push_back(change);
        while state.history.len() > HISTORY
            && let Some(forgotten) = state.history.pop_front()
        {
            state.forgotten = forgotten.revision;
        }
        drop(state);
        self.revision.send_replace(revision);
        revision
    }
}

/// Writes a document, or removes it, if it is as expected. `None` when there is nothing to remove.
fn write(
    store: &Store,
    revision: u64,
    key: String,
    value: Option<Bytes>,
    expected: Expected,
) -> Result<Option<Change>> {
    let engine = store.engine()?;
    let known =
        engine.meta.get(document_key(&key)).map_err(failed)?.and_then(|stored| document(&key, Bytes::from(stored)));
    let fits = match (expected, &known) {
        (Expected::Any, _) | (Expected::Absent, None) => true,
        (Expected::Version(version), Some(known)) => known.version == version,
        _ => false,
    };
    if !fits {
        let now = known.map_or("is not there".to_owned(), |known| format!("has version {}", known.version));
        return Err(Error::new(Code::Conflict, format!("the document {key:?} {now}; read it again and try with that")));
    }
    if value.is_none() && known.is_none() {
        return Ok(None);
    }
    let mut batch = engine.database.batch();
    batch.insert(&engine.meta, REVISION_KEY, revision.to_be_bytes().as_slice());
    match &value {
        Some(value) => {
            let mut stored = BytesMut::with_capacity(8 + value.len());
            stored.put_u64(revision);
            stored.extend_from_slice(value);
            batch.insert(&engine.meta, document_key(&key), stored.freeze());
        }
        None => batch.remove(&engine.meta, document_key(&key)),
    }
    engine.commit(batch, Some(PersistMode::Buffer))?;
    let document = value.map(|value| Document { key: key.clone(), value, version: revision });
    Ok(Some(Change { revision, key, document }))
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let what = format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len());
        return Err(Error::new(Code::InvalidArgument, what));
    }
    Ok(())
}

fn document_key(key: &str) -> Bytes {
    [b"d".as_slice(), key.as_bytes()].concat().into()
}

fn document(key: &str, stored: Bytes) -> Option<Document> {
    let version = u64::from_be_bytes(stored.get(..8)?.try_into().ok()?);
    Some(Document { key: key.to_owned(), value: stored.slice(8..), version })
}

fn list(store: &Store, prefix: &str) -> Result<Vec<Document>> {
    let engine = store.engine()?;
    let mut documents = Vec::new();
    for guard in engine.meta.prefix(document_key(prefix)) {
        let (key, value) = guard.into_inner().map_err(failed)?;
        let key = String::from_utf8_lossy(&key[1..]).into_owned();
        documents.extend(document(&key, Bytes::from(value)));
    }
    Ok(documents)
}

#[async_trait]
impl MetaStore for Meta {
    async fn get(&self, key: &str) -> Result<Option<Document>> {
        let stored = self.store.engine()?.meta.get(document_key(key)).map_err(failed)?;
        Ok(stored.and_then(|stored| document(key, Bytes::from(stored))))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Document>> {
        list(&self.store, prefix)
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected) -> Result<u64> {
        check_key(key)?;
        if value.len() > DOCUMENT_BYTES_MAX {
            let what = format!("a document has at most {DOCUMENT_BYTES_MAX} bytes, this one has {}", value.len());
            return Err(Error::new(Code::InvalidArgument, what));
        }
        let version = self.change(key, Some(value), expected).await?;
        version.ok_or_else(|| Error::new(Code::Internal, "a written document has no version"))
    }

    async fn delete(&self, key: &str, expected: Expected) -> Result<bool> {
        Ok(self.change(key, None, expected).await?.is_some())
    }

    async fn lease(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        check_key(key)?;
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        state.leases.retain(|_, (_, until)| *until > now);
        if state.leases.get(key).is_some_and(|(other, _)| other != holder) {
            return Ok(false);
        }
        state.leases.insert(key.to_owned(), (holder.to_owned(), now + ttl));
        Ok(true)
    }

    async fn release(&self, key: &str, holder: &str) -> Result<()> {
        let mut state = self.shared.state.lock();
        if state.leases.get(key).is_some_and(|(other, _)| other == holder) {
            state.leases.remove(key);
        }
        Ok(())
    }

    async fn revision(&self) -> Result<u64> {
        Ok(*self.shared.revision.borrow())
    }

    fn watch(&self, prefix: &str, mut after: u64) -> BoxStream<'static, Result<Change>> {
        let (store, shared, prefix) = (self.store.clone(), self.shared.clone(), prefix.to_owned());
        let mut stop = self.stop.subscribe();
        async_stream::stream! {
            let mut revisions = shared.revision.subscribe();
            loop {
                if *stop.borrow_and_update() {
                    yield Err(stopping());
                    return;
                }
                revisions.borrow_and_update();
                let (forgotten, changes) = {
                    let state = shared.state.lock();
                    let start = state.history.partition_point(|change| change.revision <= after);
                    (state.forgotten, state.history.range(start..).cloned().collect::<Vec<_>>())
                };
                if after < forgotten {
                    match list(&store, &prefix) {
                        Ok(documents) => for document in documents {
                            let (revision, key) = (document.version, document.key.clone());
                            after = after.max(revision);
                            yield Ok(Change { revision, key, document: Some(document) });
                        },
                        Err(error) => yield Err(error),
                    }
                    after = after.max(forgotten);
                    continue;
                }
                for change in changes {
                    after = change.revision;
                    if change.key.starts_with(&prefix) {
                        yield Ok(change);
                    }
                }
                tokio::select! {
                    changed = revisions.changed() => if changed.is_err() { return },
                    _ = stop.changed() => {}
                }
            }
        }
        .boxed()
    }
}
