//! The contract of a MetaStore: small keyed documents with a version.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::Result;

/// The longest key of a document, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// The largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key, such as `topics/model-events`.
    pub key: String,
    /// Its content.
    pub value: Bytes,
    /// Grows with every change of this document, from 1; never the same for two contents, also not after a deletion.
    pub version: u64,
}

/// What a change demands of the document as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// That there is none.
    Absent,
    /// That it has this version.
    Version(u64),
}

/// A change that a watch saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Orders all changes of the store.
    pub revision: u64,
    /// The document's key.
    pub key: String,
    /// The document after the change; `None` when it was deleted.
    pub document: Option<Document>,
}

/// Small keyed documents with versions, shared by all hubs of a backend.
///
/// Everything is linearizable per key. What returned survives what the backend's `stored` durability survives.
#[async_trait]
pub trait MetaStore: Send + Sync + 'static {
    /// The document, if there is one.
    async fn get(&self, key: &str) -> Result<Option<Document>>;

    /// All documents whose key starts with `prefix`, ordered by key.
    async fn list(&self, prefix: &str) -> Result<Vec<Document>>;

    /// Writes a document and returns its new version.
    ///
    /// # Errors
    /// `conflict` when the document is not as expected: nothing was changed. `invalid_argument` when the key or the value is too large.
    async fn put(&self, key: &str, value: Bytes, expected: Expected) -> Result<u64>;

    /// Deletes a document; false when there was none (which is an error only if a version was expected).
    ///
    /// # Errors
    /// `conflict` when the document is not as expected.
    async fn delete(&self, key: &str, expected: Expected) -> Result<bool>;

    /// Takes or renews the lease `key` for `holder`, for `ttl` from now. False when another holds it.
    ///
    /// A lease that was not renewed in time is free for anybody.
    async fn lease(&self, key: &str, holder: &str, ttl: Duration) -> Result<bool>;

    /// Gives a lease back; nothing happens when `holder` does not hold it.
    async fn release(&self, key: &str, holder: &str) -> Result<()>;

    /// The revision of the latest change of the store; 0 when there never was one.
    async fn revision(&self) -> Result<u64>;

    /// All changes of documents under `prefix` with a revision after `after`, in order, without end.
    ///
    /// Several changes of one document may be seen as one, the latest. When `after` is older than what the store
    /// remembers, the stream first yields every document as it is. Errors are reported and the watch goes on: it heals by
    /// itself when the backend comes back. Dropping the stream ends it.
    fn watch(&self, prefix: &str, after: u64) -> BoxStream<'static, Result<Change>>;
}
