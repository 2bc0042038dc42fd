//! The configuration: compiled-in defaults, a file, environment variables, flags; later wins.

mod backend_url;
mod load;
mod secret;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use synapse_hub_core::{Code, Error, Result, TopicSettings};
use synapse_hub_embedded::EmbeddedOptions;
use synapse_hub_hub::{HubOptions, Limits};
use synapse_hub_redis::RedisOptions;

pub use self::{backend_url::BackendUrl, load::ConfigSources, secret::Secret};

const DEFAULT_TOML: &str = include_str!("../../synapse.default.toml");

/// Everything that can be configured. The documentation of record is the default file: [`Config::default_toml`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the hub listens, `HOST:PORT`.
    #[serde(deserialize_with = "text")]
    pub listen: String,
    /// Where events are kept.
    pub backend: BackendUrl,
    /// Names this hub; empty for a random name.
    #[serde(deserialize_with = "text")]
    pub hub_id: String,
    /// How long a stop may take.
    #[serde(with = "duration")]
    pub shutdown_deadline: Duration,
    /// Topics.
    pub topics: TopicsConfig,
    /// Subscriptions.
    pub subscriptions: SubscriptionsConfig,
    /// The network side.
    pub http: HttpConfig,
    /// The embedded log.
    pub embedded: EmbeddedConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// Logs.
    pub log: LogConfig,
    /// The limits.
    pub limits: Limits,
}

/// The table `[topics]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicsConfig {
    /// Publishing to a topic that does not exist creates it.
    pub auto_create: bool,
    /// The `source` of events that have none.
    #[serde(deserialize_with = "text")]
    pub default_source: String,
    /// How often the backend is asked for new topics.
    #[serde(with = "duration")]
    pub discovery_interval: Duration,
    /// How often retention is enforced.
    #[serde(with = "duration")]
    pub retention_interval: Duration,
    /// The settings of topics that are created without any.
    pub default: TopicSettings,
}

/// The table `[subscriptions]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubscriptionsConfig {
    /// How long a subscription is silent before it gets a heartbeat.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// What EventSource clients wait before they connect again.
    #[serde(with = "duration")]
    pub sse_retry: Duration,
}

/// The table `[http]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The most connections at once.
    pub connections: usize,
    /// How long a client may take to send the headers of a request.
    #[serde(with = "duration")]
    pub header_timeout: Duration,
    /// How long a client may take to send the body of a request.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// How often an idle HTTP/2 connection is asked whether it is still there.
    #[serde(with = "duration")]
    pub keep_alive_interval: Duration,
    /// How long it may take to answer.
    #[serde(with = "duration")]
    pub keep_alive_timeout: Duration,
    /// The most requests at once on one HTTP/2 connection.
    pub h2_streams: u32,
    /// How much a client may send ahead on one HTTP/2 stream.
    pub h2_stream_window_bytes: u32,
    /// How much a client may send ahead on one HTTP/2 connection.
    pub h2_connection_window_bytes: u32,
    /// The largest headers of one HTTP/2 request.
    pub h2_header_bytes: u32,
    /// Origins of web pages that may use the hub.
    pub cors_origins: Vec<String>,
}

/// The table `[embedded]`: what memory and disk the embedded log uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// The most that one write gathers.
    pub write_bytes: usize,
    /// How much of each open partition's latest events is kept decoded.
    pub recent_bytes: usize,
    /// The block cache of the storage engine.
    pub cache_bytes: u64,
    /// The size at which the engine's write buffer is flushed.
    pub memtable_bytes: u64,
    /// Compress stored batches with this zstd level; 0 stores them as they are.
    pub zstd_level: i32,
    /// Appends are refused when less than this is free on the disk.
    pub free_bytes_min: u64,
}

/// The table `[redis]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// The password, when the address of the backend has none.
    pub password: Secret,
    /// How long connecting at the start is tried.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long an answer may take, and how long a request waits for a lost connection.
    #[serde(with = "duration")]
    pub response_timeout: Duration,
    /// The largest answer to a read that is taken at once.
    pub reply_bytes: usize,
    /// Compress the entries of the layout `packed` with this zstd level; 0 stores them as they are.
    pub packed_zstd_level: i32,
    /// How often a stream that gets events is looked at for what others removed from it.
    #[serde(with = "duration")]
    pub check_active: Duration,
    /// How often a stream that gets none is.
    #[serde(with = "duration")]
    pub check_idle: Duration,
}

/// The table `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A level, or directives for parts of the hub.
    #[serde(deserialize_with = "text")]
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// The form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The commented default configuration.
    pub const fn default_toml() -> &'static str {
        DEFAULT_TOML
    }

    /// This configuration as TOML, without comments and without the backend's password.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// How the hub is to behave.
    pub fn hub_options(&self) -> HubOptions {
        let defaults = HubOptions::default();
        HubOptions {
            limits: self.limits.clone(),
            auto_create: self.topics.auto_create,
            default_topic: self.topics.default.clone(),
            hub_id: if self.hub_id.is_empty() { defaults.hub_id } else { self.hub_id.clone() },
            topic_discovery: self.topics.discovery_interval,
            retention_interval: self.topics.retention_interval,
            heartbeat: self.subscriptions.heartbeat,
            default_source: self.topics.default_source.as_str().into(),
        }
    }

    /// How the embedded log is to behave.
    pub(crate) fn embedded_options(&self) -> EmbeddedOptions {
        EmbeddedOptions {
            append_bytes_max: self.limits.append_bytes,
            write_bytes_max: self.embedded.write_bytes,
            recent_bytes: self.embedded.recent_bytes,
            cache_bytes: self.embedded.cache_bytes,
            memtable_bytes: self.embedded.memtable_bytes,
            zstd_level: (self.embedded.zstd_level != 0).then_some(self.embedded.zstd_level),
            free_bytes_min: self.embedded.free_bytes_min,
            ..EmbeddedOptions::default()
        }
    }

    /// How the Redis backend is to behave.
    pub(crate) fn redis_options(&self) -> RedisOptions {
        let password = self.redis.password.expose();
        RedisOptions {
            connect_timeout: self.redis.connect_timeout,
            response_timeout: self.redis.response_timeout,
            append_bytes_max: self.limits.append_bytes,
            reply_bytes_max: self.redis.reply_bytes,
            packed_zstd_level: (self.redis.packed_zstd_level != 0).then_some(self.redis.packed_zstd_level),
            check_active: self.redis.check_active,
            check_idle: self.redis.check_idle,
            password: (!password.is_empty()).then(|| password.to_owned()),
            ..RedisOptions::default()
        }
    }

    /// # Errors
    /// `invalid_config` naming a setting that cannot be.
    pub fn validate(&self) -> Result<()> {
        let invalid = |key: &str, what: String| Err(Error::new(Code::InvalidConfig, what).field(key));
        if !is_address(&self.listen) {
            let what = format!("`listen` is an address and a port, such as 127.0.0.1:8002, not {:?}", self.listen);
            return invalid("listen", what);
        }
        if let Err(error) = self.topics.default.validate() {
            let field = format!("topics.default.{}", error.field_path().unwrap_or_default());
            return invalid(&field, format!("`{field}`: {}", error.message()));
        }
        let sizes = [
            ("limits.body_bytes", self.limits.body_bytes),
            ("limits.event_bytes", self.limits.event_bytes),
            ("limits.batch_events", self.limits.batch_events),
            ("limits.json_depth", self.limits.json_depth),
            ("limits.delivery_events", self.limits.delivery_events),
            ("limits.delivery_bytes", self.limits.delivery_bytes),
            ("limits.append_bytes", self.limits.append_bytes),
            ("limits.stream_inflight_batches", self.limits.stream_inflight_batches),
            ("http.connections", self.http.connections),
            ("http.h2_streams", self.http.h2_streams as usize),
        ];
        if let Some((key, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return invalid(key, format!("`{key}` is at least 1"));
        }
        let waits = [
            ("topics.discovery_interval", self.topics.discovery_interval),
            ("topics.retention_interval", self.topics.retention_interval),
            ("subscriptions.heartbeat", self.subscriptions.heartbeat),
            ("http.header_timeout", self.http.header_timeout),
            ("http.body_timeout", self.http.body_timeout),
            ("http.keep_alive_interval", self.http.keep_alive_interval),
            ("http.keep_alive_timeout", self.http.keep_alive_timeout),
        ];
        if let Some((key, _)) = waits.into_iter().find(|(_, wait)| wait.is_zero()) {
            return invalid(key, format!("`{key}` is longer than nothing"));
        }
        Ok(())
    }
}

fn is_address(text: &str) -> bool {
    if text.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let host_and_port = text.rsplit_once(':');
    host_and_port
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains([':', '/', ' ']) && port.parse::<u16>().is_ok())
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8002".into(),
            backend: BackendUrl::embedded("./synapse-data"),
            hub_id: String::new(),
            shutdown_deadline: Duration::from_secs(10),
            topics: TopicsConfig::default(),
            subscriptions: SubscriptionsConfig::default(),
            http: HttpConfig::default(),
            embedded: EmbeddedConfig::default(),
            redis: RedisConfig::default(),
            log: LogConfig::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            auto_create: true,
            default_source: "unknown".into(),
            discovery_interval: Duration::from_secs(5),
            retention_interval: Duration::from_secs(10),
            default: TopicSettings::default(),
        }
    }
}

impl Default for SubscriptionsConfig {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), sse_retry: Duration::from_secs(2) }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections: 20_000,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(60),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(20),
            h2_streams: 20_000,
            h2_stream_window_bytes: 1 << 20,
            h2_connection_window_bytes: 4 << 20,
            h2_header_bytes: 64 << 10,
            cors_origins: Vec::new(),
        }
    }
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        let options = EmbeddedOptions::default();
        Self {
            write_bytes: options.write_bytes_max,
            recent_bytes: options.recent_bytes,
            cache_bytes: options.cache_bytes,
            memtable_bytes: options.memtable_bytes,
            zstd_level: options.zstd_level.unwrap_or(0),
            free_bytes_min: options.free_bytes_min,
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        let options = RedisOptions::default();
        Self {
            password: Secret::default(),
            connect_timeout: options.connect_timeout,
            response_timeout: options.response_timeout,
            reply_bytes: options.reply_bytes_max,
            packed_zstd_level: options.packed_zstd_level.unwrap_or(0),
            check_active: options.check_active,
            check_idle: options.check_idle,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// Durations as people write them.
mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)
            .map_err(|_| serde::de::Error::custom("a duration is a text such as \"10s\" or \"500ms\""))?;
        humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!("{text:?} is no duration ({error}); write one as \"10s\" or \"500ms\""))
        })
    }
}

/// Text, also when it looks like a number: environment variables have no quotes.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Text(String),
        Integer(i64),
        Float(f64),
        Boolean(bool),
    }
    Ok(match Lenient::deserialize(from)? {
        Lenient::Text(text) => text,
        Lenient::Integer(number) => number.to_string(),
        Lenient::Float(number) => number.to_string(),
        Lenient::Boolean(boolean) => boolean.to_string(),
    })
}
