//! One error type, born knowing its stable code and whether a retry can help.

use std::{fmt, sync::Arc, time::Duration};

/// The result of everything in Synapse that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $retryable:literal;)*) => {
        /// A stable name for a kind of failure. Codes are never renamed and never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of their definition.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as users see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// Whether the same request may succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Code::$name => $retryable,)* }
            }
        }
    };
}

codes! {
    /// The input is not JSON.
    InvalidJson = "invalid_json", false;
    /// The input nests deeper than `limits.json_depth`.
    JsonTooDeep = "json_too_deep", false;
    /// An attribute of an event is missing or of the wrong type.
    InvalidEvent = "invalid_event", false;
    /// A time could not be read.
    InvalidTimestamp = "invalid_timestamp", false;
    /// One event is over `limits.event_bytes`.
    EventTooLarge = "event_too_large", false;
    /// More than `limits.batch_events` events in one request.
    BatchTooLarge = "batch_too_large", false;
    /// A body is over `limits.body_bytes`, before or after decompression.
    BodyTooLarge = "body_too_large", false;
    /// A batch without events.
    EmptyBatch = "empty_batch", false;
    /// Some of a batch's events were refused, and so the whole batch.
    BatchRefused = "batch_refused", false;
    /// The content type is not one that is accepted here.
    UnsupportedMediaType = "unsupported_media_type", false;
    /// There is nothing at this path.
    RouteNotFound = "route_not_found", false;
    /// The path is there, the method is not.
    MethodNotAllowed = "method_not_allowed", false;
    /// A client took longer over sending its request than it may.
    RequestTimeout = "request_timeout", true;
    /// A topic name or pattern breaks the rules of names.
    InvalidTopic = "invalid_topic", false;
    /// There is no such topic.
    TopicNotFound = "topic_not_found", false;
    /// The topic exists with other settings.
    TopicExists = "topic_exists", false;
    /// A setting of a topic cannot be.
    InvalidTopicSettings = "invalid_topic_settings", false;
    /// A filter cannot be right.
    InvalidFilter = "invalid_filter", false;
    /// The filters of a subscription are more than `limits.subscription_filters` allows.
    TooManyFilters = "too_many_filters", false;
    /// `replay_from` or `until` could not be read.
    InvalidReplayPoint = "invalid_replay_point", false;
    /// A cursor could not be read.
    InvalidCursor = "invalid_cursor", false;
    /// The hub serves `limits.subscriptions` already.
    TooManySubscriptions = "too_many_subscriptions", true;
    /// A parameter of a request cannot be.
    InvalidArgument = "invalid_argument", false;
    /// A producer's batch is older than what the hub remembers of that producer.
    ProducerSequenceTooOld = "producer_sequence_too_old", false;
    /// A document changed since it was read.
    Conflict = "conflict", false;
    /// The backend cannot be reached.
    BackendUnavailable = "backend_unavailable", true;
    /// The backend did not answer in time; whether it acted is not known.
    BackendTimeout = "backend_timeout", true;
    /// The backend accepts no writes (a replica).
    BackendReadonly = "backend_readonly", true;
    /// The backend is loading its data.
    BackendLoading = "backend_loading", true;
    /// The backend is out of memory and accepts no writes.
    BackendOutOfMemory = "backend_out_of_memory", true;
    /// The topic's key on the backend holds something that is not a stream.
    BackendWrongType = "backend_wrong_type", false;
    /// The backend refused the hub's credentials or rights.
    BackendDenied = "backend_denied", false;
    /// The backend answered with an error not listed here.
    BackendError = "backend_error", false;
    /// The disk under the embedded log is full.
    StorageFull = "storage_full", true;
    /// Stored data fails its checksum.
    StorageCorrupt = "storage_corrupt", false;
    /// Another hub has the embedded folder open.
    StorageLocked = "storage_locked", false;
    /// The hub is stopping.
    ShuttingDown = "shutting_down", true;
    /// More work is under way than the hub's limits allow.
    Overloaded = "overloaded", true;
    /// This backend cannot do that.
    Unsupported = "unsupported", false;
    /// The configuration cannot be right.
    InvalidConfig = "invalid_config", false;
    /// A defect of Synapse.
    Internal = "internal", false;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure: what was wrong, where, and what to do.
///
/// Cheap to clone, because one failed write is reported to every batch that took part in it.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    message: String,
    topic: Option<String>,
    field: Option<String>,
    index: Option<usize>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a message for the person who has to act on it: one or two sentences, no trailing code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            code,
            message: message.into(),
            topic: None,
            field: None,
            index: None,
            retry_after: None,
            source: None,
        }))
    }

    /// Names the topic.
    #[must_use]
    pub fn topic(self, topic: impl Into<String>) -> Self {
        self.with(|inner| inner.topic = Some(topic.into()))
    }

    /// Names the place within the event, such as `metrics.loss`.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        self.with(|inner| inner.field = Some(field.into()))
    }

    /// Names the event within the batch, counted from 0.
    #[must_use]
    pub fn index(self, index: usize) -> Self {
        self.with(|inner| inner.index = Some(index))
    }

    /// Says how long to wait before a retry.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        self.with(|inner| inner.retry_after = Some(wait))
    }

    /// Keeps what caused this.
    #[must_use]
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.source = Some(Arc::new(source)))
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The topic, where there is one.
    pub fn topic_name(&self) -> Option<&str> {
        self.0.topic.as_deref()
    }

    /// The place within the event, where there is one.
    pub fn field_path(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The index of the event within the batch, where there is one.
    pub fn event_index(&self) -> Option<usize> {
        self.0.index
    }

    /// How long to wait before a retry, where that is known.
    pub fn retry_wait(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        self.0.code.retryable()
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(topic) = &self.0.topic {
            write!(f, "topic {topic}: ")?;
        }
        if let Some(index) = self.0.index {
            write!(f, "event {index}: ")?;
        }
        if let Some(field) = &self.0.field {
            write!(f, "field {field}: ")?;
        }
        write!(f, "{} [{}]", self.0.message, self.0.code)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if let Some(source) = &self.0.source {
            write!(f, " (caused by: {source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
