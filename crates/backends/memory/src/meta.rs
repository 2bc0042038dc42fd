//! Documents in memory, with every change remembered.

use std::{
    collections::BTreeMap,
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

pub(crate) struct Meta {
    state: Arc<Mutex<State>>,
    revision: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    documents: BTreeMap<String, Document>,
    changes: Vec<Change>,
    leases: BTreeMap<String, (String, Instant)>,
}

impl Meta {
    pub(crate) fn new(stop: watch::Sender<bool>) -> Self {
        Self { state: Arc::default(), revision: watch::Sender::new(0), stop }
    }

    fn change(&self, key: &str, value: Option<Bytes>, expected: Expected) -> Result<Option<u64>> {
        let mut state = self.state.lock();
        let known = state.documents.get(key).map(|document| document.version);
        let fits = match expected {
            Expected::Any => true,
            Expected::Absent => known.is_none(),
            Expected::Version(version) => known == Some(version),
        };
        if !fits {
            let now = known.map_or("is not there".to_owned(), |version| format!("has version {version}"));
            return Err(Error::new(
                Code::Conflict,
                format!("the document {key:?} {now}; read it again and try with that"),
            ));
        }
        if known.is_none() && value.is_none() {
            return Ok(None);
        }
        let revision = state.changes.last().map_or(0, |change| change.revision) + 1;
        let document = value.map(|value| Document { key: key.to_owned(), value, version: revision });
        match &document {
            Some(document) => drop(state.documents.insert(key.to_owned(), document.clone())),
            None => drop(state.documents.remove(key)),
        }
        state.changes.push(Change { revision, key: key.to_owned(), document });
        drop(state);
        self.revision.send_replace(revision);
        Ok(Some(revision))
    }
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let what = format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len());
        return Err(Error::new(Code::InvalidArgument, what));
    }
    Ok(())
}

#[async_trait]
impl MetaStore for Meta {
    async fn get(&self, key: &str) -> Result<Option<Document>> {
        Ok(self.state.lock().documents.get(key).cloned())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Document>> {
        let state = self.state.lock();
        let from = state.documents.range(prefix.to_owned()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, document)| document.clone()).collect())
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
        let mut state = self.state.lock();
        state.leases.retain(|_, (_, until)| *until > now);
        if state.leases.get(key).is_some_and(|(other, _)| other != holder) {
            return Ok(false);
        }
        state.leases.insert(key.to_owned(), (holder.to_owned(), now + ttl));
        Ok(true)
    }

    async fn release(&self, key: &str, holder: &str) -> Result<()> {
        let mut state = self.state.lock();
        if state.leases.get(key).is_some_and(|(other, _)| other == holder) {
            state.leases.remove(key);
        }
        Ok(())
    }

    async fn revision(&self) -> Result<u64> {
        Ok(*self.revision.borrow())
    }

    fn watch(&self, prefix: &str, mut after: u64) -> BoxStream<'static, Result<Change>> {
        let (state, prefix) = (self.state.clone(), prefix.to_owned());
        let (mut revisions, mut stop) = (self.revision.subscribe(), self.stop.subscribe());
        async_stream::stream! {
            loop {
                revisions.borrow_and_update();
                if *stop.borrow_and_update() {
                    yield Err(stopping());
                    return;
                }
                let changes: Vec<Change> = {
                    let state = state.lock();
                    let start = state.changes.partition_point(|change| change.revision <= after);
                    state.changes[start..].to_vec()
                };
                for change in changes {
                    after = change.revision;
                    if change.key.starts_with(&prefix) {
                        yield Ok(change);
                    }
                }
                tokio::select! {
                    changed = revisions.changed() => if changed.is_err() { return },
                    stopped = stop.changed() => if stopped.is_err() { return },
                }
            }
        }
        .boxed()
    }
}
