//! The contract that backends keep.
//!
//! A backend writes these few methods; everything else is derived once, in the hub. Every backend runs the whole
//! conformance suite, which also checks that its [`Capabilities`] claim neither too much nor too little.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytestring::ByteString;
use futures::{future::BoxFuture, stream::BoxStream};

use crate::{
    Durability, Event, Layout, PartitionId, Position, Result, Timestamp, TopicName, TopicSettings, meta::MetaStore,
};

/// How many of a producer's latest batches a partition remembers, for the recognition of retries: the most that a
/// publisher may have in flight.
pub const PRODUCER_WINDOW_BATCHES: usize = 64;

/// For how long a partition remembers a producer that has stopped publishing, at least.
pub const PRODUCER_IDLE: Duration = Duration::from_secs(24 * 3600);

/// A place where events are kept.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Its short name, such as `redis`.
    fn name(&self) -> &'static str;

    /// What it can and cannot do.
    fn capabilities(&self) -> Capabilities;

    /// What `durability` means here, now (on Redis the server's configuration is read).
    async fn guarantee(&self, durability: Durability) -> Result<Guarantee>;

    /// Makes room for a topic. Idempotent: calling it for a topic that exists is no error and loses nothing.
    async fn create_topic(&self, name: &TopicName, settings: &TopicSettings) -> Result<()>;

    /// Deletes a topic's events and all that the backend knows of it. Readers of it end with `topic_not_found`. Deleting
    /// what is not there is no error.
    async fn delete_topic(&self, name: &TopicName, settings: &TopicSettings) -> Result<()>;

    /// All topics that hold or held events here, also those that other programs made, in order of name. A partitioned
    /// topic is listed once.
    async fn list_topics(&self) -> Result<Vec<TopicName>>;

    /// Opens a partition. Partitions that do not exist yet are empty, and come into being with the first append.
    async fn open(&self, partition: &PartitionId, settings: &TopicSettings) -> Result<Arc<dyn EventLog>>;

    /// The documents that all hubs on this backend share.
    fn meta(&self) -> Arc<dyn MetaStore>;

    /// Whether it can be used now. Returns within a second or two.
    async fn health(&self) -> Health;

    /// Stores what was accepted, ends all reads (with `shutting_down`), and lets go of files and connections.
    ///
    /// Returns when that is done or the deadline has passed, and never hangs on a blocked reader.
    async fn shutdown(&self, deadline: Duration);
}

/// One partition of a topic: an ordered sequence of events.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Accepts a batch. Waits for room when too much is under way (`limits.append_bytes`).
    ///
    /// Batches that were accepted in some order, by calls that returned one before the other was made, stand in the log
    /// in that order, and their commits resolve in that order. The events of a batch are neighbours. Either the whole
    /// batch is stored or nothing of it. Dropping the returned commit does not take the batch back.
    ///
    /// # Errors
    /// `overloaded`, `shutting_down`; what goes wrong later is the commit's error.
    async fn append(&self, batch: Append) -> Result<Commit>;

    /// Events after `after`, in order, each exactly once.
    ///
    /// The stream ends when everything up to and including `until` was yielded; with `until` of `None` it waits for
    /// more, for ever. An `until` ahead of the log is waited for. A gap in history is yielded as [`ReadItem::Gap`] where
    /// it is, and reading goes on after it. Errors that a retry can heal are not yielded: the stream waits, with backoff
    /// and jitter, and goes on where it was; it yields an error only when reading cannot go on. Dropping it ends it, at
    /// any moment, and loses nothing: a new read from the last yielded position continues.
    fn read(
        &self,
        after: Position,
        until: Option<Position>,
        limits: ReadLimits,
    ) -> BoxStream<'static, Result<ReadItem>>;

    /// What the log holds now.
    async fn bounds(&self) -> Result<Bounds>;

    /// Where to read from so that every event that the log took at `time` or later is yielded, and none before it:
    /// a position to be given to [`EventLog::read`] as `after`. [`Position::START`] when all are later, so that what was
    /// trimmed away is told as a gap, unless the log knows that all of that was earlier; the end when all are earlier.
    async fn find(&self, time: Timestamp) -> Result<Position>;

    /// Removes the oldest events.
    async fn trim(&self, trim: Trim) -> Result<Trimmed>;
}

/// Resolves when the batch is as durable as was asked for. It may be dropped at any moment.
pub type Commit = BoxFuture<'static, Result<Appended>>;

/// A batch to be stored.
#[derive(Debug, Clone)]
pub struct Append {
    /// The events, complete and checked.
    pub events: Vec<Event>,
    /// What the commit must promise.
    pub durability: Durability,
    /// Who publishes, for the recognition of retries.
    pub producer: Option<ProducerBatch>,
    /// Recognise events by `source` and `id` within this window.
    pub dedup_window: Option<Duration>,
}

impl Append {
    /// A batch with the default durability and no recognition of duplicates.
    pub fn new(events: Vec<Event>) -> Self {
        Self { events, durability: Durability::default(), producer: None, dedup_window: None }
    }
}

/// The number of a batch among its producer's batches for one partition.
///
/// A partition remembers the positions of each producer's latest [`PRODUCER_WINDOW_BATCHES`] batches. A number among
/// them is a retry: it is answered with the first positions and nothing is stored. A number that is not among them but
/// above the smallest of them is stored, also out of order, because it was never stored before. A smaller one fails with
/// `producer_sequence_too_old`. All this survives what the batch itself survives, and holds across hubs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer, 1 to 64 bytes.
    pub id: ByteString,
    /// The batch's number.
    pub sequence: u64,
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Appended {
    /// A position an event. For a recognised retry those that can still be told: an event that was trimmed since has the
    /// position of its batch's first.
    pub positions: Vec<Position>,
    /// The batch is a retry that was recognised by its producer's number.
    pub duplicate: bool,
    /// The events that the deduplication window recognised, by index.
    pub deduplicated: Vec<u32>,
}

/// How much a read yields at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// At most this many events, except that a stored batch may be yielded whole.
    pub batch_events_max: usize,
    /// At most about this many bytes, at least one event.
    pub batch_bytes_max: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { batch_events_max: 1000, batch_bytes_max: 1 << 20 }
    }
}

/// What a read yields.
#[derive(Debug, Clone)]
pub enum ReadItem {
    /// Events, at least one.
    Batch(Vec<Record>),
    /// Events are missing here.
    Gap(Gap),
}

/// An event at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// When the log took it: what [`EventLog::find`] goes by.
    pub stored: Timestamp,
    /// The event.
    pub event: Event,
}

/// Events that a reader should have seen and that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The last position before the gap.
    pub after: Position,
    /// Reading goes on after this.
    pub resume: Position,
    /// The earliest event that is still there; `None` when there is none.
    pub earliest: Option<Position>,
    /// How many are missing, where that is known.
    pub lost: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// They were trimmed away, by retention or by somebody.
    Trimmed,
    /// The log was deleted and made anew.
    Recreated,
    /// They cannot be read: their checksum does not fit, or the entry cannot be a position.
    Unreadable,
}

impl GapReason {
    /// The reason in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Recreated => "recreated",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The earliest event; `None` when the log is empty.
    pub earliest: Option<Position>,
    /// The latest event; `None` when the log is empty.
    pub latest: Option<Position>,
    /// The largest position ever given, of an event that may be gone; [`Position::START`] when there never was one.
    /// Reading after it yields only what is yet to come.
    pub end: Position,
    /// How many events.
    pub events: Option<u64>,
    /// How many bytes they take.
    pub bytes: Option<u64>,
}

/// Which of the oldest events to remove. What several fields say is removed, not only what all say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trim {
    /// Everything up to and including this position.
    pub up_to: Option<Position>,
    /// All but the latest so many events.
    pub events_max: Option<u64>,
    /// All but the latest that fit into so many bytes, about.
    pub bytes_max: Option<u64>,
    /// Whole stored batches or nodes may be kept that only partly are to go: faster, and at least as much is kept.
    pub approximate: bool,
}

/// What a trim did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trimmed {
    /// How many events were removed.
    pub removed: Option<u64>,
}

/// What a backend can and cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// What an event survives that was acknowledged as `stored`.
    pub survives: Survival,
    /// The layouts it has; the first is its default.
    pub layouts: &'static [Layout],
    /// Whether several hubs may use it at once.
    pub sharing: Sharing,
    /// Whether gaps say how many events are lost.
    pub gap_counts: GapCounts,
    /// The largest single event, in bytes.
    pub event_bytes_max: usize,
    /// How exact [`EventLog::find`] is: events stored within this of the wanted time may be on either side.
    pub find_precision: Duration,
}

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Survival {
    /// Only the life of this process.
    Process,
    /// The hub's sudden death.
    HubCrash,
}

/// Who may use the same data at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One hub.
    Exclusive,
    /// Any number of hubs, and other programs.
    Shared,
}

/// Whether gaps are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCounts {
    /// Always.
    Exact,
    /// When it is known.
    BestEffort,
}

/// What a durability level means on a backend, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantee {
    /// The level that is really given, which may be lower than the level asked for.
    pub level: Durability,
    /// In words, such as `redis appendfsync=everysec`.
    pub text: String,
}

/// Whether a backend can be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Reads work.
    pub readable: bool,
    /// Writes work.
    pub writable: bool,
    /// Its version, where it has one.
    pub version: Option<String>,
    /// Its own clock, where it has one.
    pub time: Option<Timestamp>,
    /// What is wrong or unusual, a sentence each.
    pub notes: Vec<String>,
    /// How often a lost connection was made again, since the start.
    pub reconnects: u64,
    /// How many operations failed, since the start.
    pub errors: u64,
}
