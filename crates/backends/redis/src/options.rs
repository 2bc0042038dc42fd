//! The settings of the Redis backend.

use std::{fmt, sync::Arc, time::Duration};

use synapse_hub_core::{
    Code, Error, Result,
    fields::{FieldTypes, WellKnown},
};

/// The settings of the Redis backend. The defaults suit most.
#[derive(Clone)]
pub struct RedisOptions {
    /// How long connecting at the start is tried, and how long one attempt may take.
    pub connect_timeout: Duration,
    /// How long an answer may take, and how long a request waits for a lost connection.
    pub response_timeout: Duration,
    /// How many bytes of events may be under way to Redis; an append that finds no room waits.
    pub append_bytes_max: usize,
    /// The largest event, in bytes.
    pub event_bytes_max: usize,
    /// The largest answer to a read that is taken at once, in bytes.
    pub reply_bytes_max: usize,
    /// How hard packed entries are compressed; `None` stores them as they are.
    pub packed_zstd_level: Option<i32>,
    /// How often a stream that gets events is looked at for what others removed from it.
    pub check_active: Duration,
    /// How often a stream that gets none is.
    pub check_idle: Duration,
    /// The password, when the address has none.
    pub password: Option<String>,
    /// Knows the types of the fields of entries that other programs write.
    pub field_types: Arc<dyn FieldTypes>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            append_bytes_max: 64 << 20,
            event_bytes_max: 32 << 20,
            reply_bytes_max: 64 << 20,
            packed_zstd_level: Some(1),
            check_active: Duration::from_secs(1),
            check_idle: Duration::from_secs(5),
            password: None,
            field_types: Arc::new(WellKnown),
        }
    }
}

impl RedisOptions {
    /// # Errors
    /// `invalid_config` naming the setting that cannot be.
    pub(crate) fn validate(&self) -> Result<()> {
        let sizes = [
            ("append_bytes_max", self.append_bytes_max),
            ("event_bytes_max", self.event_bytes_max),
            ("reply_bytes_max", self.reply_bytes_max),
        ];
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("check_active", self.check_active),
            ("check_idle", self.check_idle),
        ];
        let invalid = |name: &str, why: &str| Err(Error::new(Code::InvalidConfig, why).field(name));
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0 || *size > 1 << 30) {
            return invalid(name, "a size from 1 byte to 1 GiB is possible");
        }
        match times.iter().find(|(_, time)| time.is_zero()) {
            Some((name, _)) => invalid(name, "a time above zero is needed"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("append_bytes_max", &self.append_bytes_max)
            .field("event_bytes_max", &self.event_bytes_max)
            .field("reply_bytes_max", &self.reply_bytes_max)
            .field("packed_zstd_level", &self.packed_zstd_level)
            .field("check_active", &self.check_active)
            .field("check_idle", &self.check_idle)
            .finish_non_exhaustive()
    }
}
