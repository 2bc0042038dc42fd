//! Documents in memory, with the latest changes for those who watch.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use synapse_hub_core::{
    Code, Error, Result,
    meta::{Change, DOCUMENT_BYTES_MAX, Document, Expected, KEY_BYTES_MAX, MetaStore},
};
use tokio::sync::watch;

use crate::stopping;

/// How many changes are remembered.
const HISTORY: usize = 1000;

/// A store of documents.
#[derive(Debug)]
pub(crate) struct MemoryMeta {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<()>,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    documents: BTreeMap<String, Document>,
    /// The revision of the latest change, which is also the version of the document that it made.
    revision: u64,
    /// The latest changes, with consecutive revisions.
    history: VecDeque<Change>,
    /// Who holds a lease, and until when.
    leases: HashMap<String, (String, Instant)>,
}

impl MemoryMeta {
    pub(crate) fn new(stop: watch::Sender<bool>) -> Self {
        Self { state: Arc::default(), changes: watch::Sender::new(()), stop }
    }

    fn change(&self, key: &str, value: Option<Bytes>, expected: Expected) -> Result<Option<u64>> {
        let revision = self.state.lock().change(key, value, expected)?;
        self.changes.send_replace(());
        Ok(revision)
    }
}

#[async_trait]
impl MetaStore for MemoryMeta {
    async fn get(&self, key: &str) -> Result<Option<Document>> {
        Ok(self.state.lock().documents.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Document>> {
        Ok(self.state.lock().list(prefix))
    }

    async fn put(&self, key: &str, value: Bytes, expected: Expected) -> Result<u64> {
        check_key(key)?;
        if value.len() > DOCUMENT_BYTES_MAX {
            let what = format!("a document has at most {DOCUMENT_BYTES_MAX} bytes, this one has {}", value.len());
            return Err(Error::new(Code::InvalidArgument, what));
        }
        let version = self.change(key, Some(value), expected)?;
        version.ok_or_else(|| Error::new(Code::Internal, "a written document has no version"))
    }

    async fn delete(&self, key: &str, expected: Expected) -> Result<bool> {
        Ok(self.change(key, None, expected)?.is_some())
    }

    async fn lease(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool> {
        check_key(key)?;
        let now = Instant::now();
        let leases = &mut self.state.lock().leases;
        leases.retain(|_, (_, until)| *until > now);
        if leases.get(key).is_some_and(|(other, _)| other != holder) {
            return Ok(false);
        }
        leases.insert(key.to_owned(), (holder.to_owned(), now + ttl));
        Ok(true)
    }

    async fn release(&self, key: &str, holder: &str) -> Result<()> {
        let leases = &mut self.state.lock().leases;
        if leases.get(key).is_some_and(|(other, _)| other == holder) {
            leases.remove(key);
        }
        Ok(())
    }

    async fn revision(&self) -> Result<u64> {
        Ok(self.state.lock().revision)
    }

    fn watch(&self, prefix: &str, mut after: u64) -> BoxStream<'static, Result<Change>> {
        let (state, prefix) = (self.state.clone(), prefix.to_owned());
        let (mut changes, mut stop) = (self.changes.subscribe(), self.stop.subscribe());
        async_stream::stream! {
            while !*stop.borrow_and_update() {
                changes.borrow_and_update();
                let news = state.lock().since(after, &prefix);
                after = after.max(news.1);
                for change in news.0 {
                    yield Ok(change);
                }
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = stop.changed() => {}
                }
            }
            yield Err(stopping());
        }
        .boxed()
    }
}

impl State {
    fn list(&self, prefix: &str) -> Vec<Document> {
        let from = self.documents.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(_, document)| document).take_while(|document| document.key.starts_with(prefix)).cloned().collect()
    }

    /// Makes a change; its revision, or `None` when nothing had to be changed.
    fn change(&mut self, key: &str, value: Option<Bytes>, expected: Expected) -> Result<Option<u64>> {
        let version = self.documents.get(key).map(|document| document.version);
        let fits = match expected {
            Expected::Any => true,
            Expected::Absent => version.is_none(),
            Expected::Version(wanted) => version == Some(wanted),
        };
        if !fits {
            let now = version.map_or("is not there".to_owned(), |version| format!("has version {version}"));
            let what = format!("the document {key:?} {now}; read it again and try with that");
            return Err(Error::new(Code::Conflict, what));
        }
        if value.is_none() && version.is_none() {
            return Ok(None);
        }
        self.revision += 1;
        let document = value.map(|value| Document { key: key.to_owned(), value, version: self.revision });
        match &document {
            Some(document) => self.documents.insert(key.to_owned(), document.clone()),
            None => self.documents.remove(key),
        };
        self.history.push_back(Change { revision: self.revision, key: key.to_owned(), document });
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        Ok(Some(self.revision))
    }

    /// What somebody has to know who knows everything up to `after`, and what they then know everything up to.
    fn since(&self, after: u64, prefix: &str) -> (Vec<Change>, u64) {
        let forgotten = self.revision - self.history.len() as u64;
        let changes = if after < forgotten {
            let whole = |document: Document| {
                let (revision, key) = (document.version, document.key.clone());
                Change { revision, key, document: Some(document) }
            };
            self.list(prefix).into_iter().map(whole).collect()
        } else {
            let news = self.history.iter().skip_while(|change| change.revision <= after);
            news.filter(|change| change.key.starts_with(prefix)).cloned().collect()
        };
        (changes, self.revision)
    }
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let what = format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len());
        return Err(Error::new(Code::InvalidArgument, what));
    }
    Ok(())
}
