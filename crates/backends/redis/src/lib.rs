//! The Redis backend: event logs as Redis Streams, shared with every program that uses the same streams.
//!
//! A topic with one partition is the stream `topic`, one with several is `topic:{0}`, `topic:{1}`, …. In the layout `flat`
//! an event is an entry, one field for each top-level key; in `packed` a batch is an entry. The position of an event is
//! the id of its entry. [`entry`] describes what is written, and what of others is understood.
//!
//! # What it does to Redis
//! * An append is one transaction: `MULTI`, an `XADD` an event, `EXEC`; with a producer a script ends it, which takes the
//!   entries out again when the batch is a retry. Readers never see such entries.
//! * An append to a topic with a deduplication window is one script, which looks for `source` and `id` of each event and
//!   notes them for as long as the window: about four times the work of an append without.
//! * All tails together are one connection that blocks in `XREAD`. History is read with `XRANGE`.
//! * Redis 7 or later is needed. A user of Redis needs the topics' keys and `synapse:*`, and the commands `MULTI EXEC XADD
//!   XRANGE XREVRANGE XREAD XLEN XTRIM XDEL XINFO EVAL EVAL_RO SCAN TYPE GET SET UNLINK HGET HMGET HSET HINCRBY DEL EXISTS INCR
//!   ZADD ZREM ZRANGE ZRANGEBYLEX ZCARD ZREMRANGEBYRANK PEXPIRE`; better with `INFO TIME MEMORY|USAGE CONFIG|GET
//!   CLIENT|UNBLOCK` too.
//!
//! # When Redis is gone
//! Appends wait for the connection and fail with a retryable error after [`RedisOptions::response_timeout`]; reads wait and
//! go on by themselves. Connections are made again with a growing, random pause. The log gets one warning and one note.

mod backoff;
mod connect;
pub mod entry;
mod errors;
mod health;
mod io;
mod keys;
mod link;
mod log;
mod meta;
mod options;
mod outage;
mod read;
mod resp;
mod scripts;
mod snapshot;
mod tail;
mod topics;
mod write;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use synapse_hub_core::{
    Durability, Layout, PartitionId, Result, TopicName, TopicSettings,
    backend::{Backend, Capabilities, EventLog, GapCounts, Guarantee, Health, Sharing, Survival},
    meta::MetaStore,
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

pub use connect::Address;
pub use options::RedisOptions;

use connect::{Connected, Dialer, Tls};
use io::Io;
use link::Link;
use log::{Log, Partition};
use outage::Outage;
use tail::{Checks, Tail};

/// How many appends are written before the answers to the earlier ones: one is worked on while the next one travels.
const APPEND_PIPELINES_MAX: usize = 2;
/// How many reads and other requests are.
const OTHER_PIPELINES_MAX: usize = 64;
/// The most that is gathered into one write.
const PIPELINE_BYTES_MAX: usize = 1 << 20;

/// Event logs on a Redis server.
pub struct RedisBackend {
    shared: Arc<Shared>,
    io: Io,
}

/// What all logs of a backend share.
pub(crate) struct Shared {
    options: RedisOptions,
    append: Link,
    bulk: Link,
    control: Link,
    tail: Tail,
    /// Room for appends that are under way, in bytes.
    room: Arc<Semaphore>,
    /// Cancelled to end all reads.
    reads: CancellationToken,
    outage: Arc<Outage>,
    persistence: health::Known,
    listed: tokio::sync::Mutex<Option<topics::Listed>>,
    /// Counts what this hub did that makes an earlier list of topics wrong.
    topic_changes: AtomicU64,
}

impl Shared {
    fn topics_changed(&self) {
        self.topic_changes.fetch_add(1, Ordering::AcqRel);
    }
}

impl RedisBackend {
    /// Connects to the Redis at this address, trying for [`RedisOptions::connect_timeout`]. See [`Address`] for its form.
    /// A password that the address lacks is taken from the options, then from the variable `REDIS_PASSWORD`.
    ///
    /// # Errors
    /// `backend_unavailable` when it cannot be reached, `backend_denied` when it refuses the credentials, `unsupported` when
    /// it is older than Redis 7, `invalid_config` when the address or an option cannot be.
    pub async fn connect(address: &str, options: RedisOptions) -> Result<Self> {
        options.validate()?;
        let password = options.password.clone().or_else(|| std::env::var("REDIS_PASSWORD").ok());
        let address = address.parse::<Address>()?.or_password(password);
        let tls = Tls::of(&address)?;
        let dialer = Dialer { address, tls, timeout: options.connect_timeout };
        let io = Io::start()?;
        let connections = io.run(dial_all(dialer.clone(), options.connect_timeout)).await??;
        tracing::info!(address = %dialer.address, version = connections[0].version, "connected to Redis");
        Ok(Self::with(&dialer, connections, options, io))
    }

    fn with(dialer: &Dialer, connections: [Connected; 4], options: RedisOptions, io: Io) -> Self {
        let outage = Arc::new(Outage::new(dialer.address.to_string()));
        let link = |connected, pipelines_max, stop: &CancellationToken| {
            let options = link::Options { pipelines_max, pipeline_bytes_max: PIPELINE_BYTES_MAX };
            Link::new(dialer.clone(), connected, options, outage.clone(), stop.clone())
        };
        let [append, bulk, control, blocking] = connections;
        let (append, appending) = link(append, APPEND_PIPELINES_MAX, &io.appends);
        let (bulk, reading) = link(bulk, OTHER_PIPELINES_MAX, &io.others);
        let (control, asking) = link(control, OTHER_PIPELINES_MAX, &io.others);
        let (blocking, following) = link(blocking, OTHER_PIPELINES_MAX, &io.others);
        let checks = Checks {
            active: options.check_active,
            idle: options.check_idle,
            response_timeout: options.response_timeout,
            reply_bytes_max: options.reply_bytes_max,
        };
        let (tail, tailing) = Tail::new(blocking, control.clone(), checks);
        io.keep_appending(appending);
        for task in [Box::pin(reading) as io::Task, Box::pin(asking), Box::pin(following), Box::pin(tailing)] {
            io.keep(task);
        }
        let shared = Shared {
            room: Arc::new(Semaphore::new(options.append_bytes_max)),
            options,
            append,
            bulk,
            control,
            tail,
            reads: io.others.clone(),
            outage,
            persistence: health::Known::default(),
            listed: tokio::sync::Mutex::default(),
            topic_changes: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), io }
    }
}

/// Makes the four connections: for appends, for history, for small questions, and for the tails.
async fn dial_all(dialer: Dialer, timeout: Duration) -> Result<[Connected; 4]> {
    let deadline = Instant::now() + timeout;
    let pause = Duration::from_millis(100);
    let first = loop {
        match dialer.dial().await {
            Ok(connected) => break connected,
            Err(error) if error.retryable() && Instant::now() + pause < deadline => tokio::time::sleep(pause).await,
            Err(error) => return Err(error),
        }
    };
    let (second, third, fourth) = tokio::try_join!(dialer.dial(), dialer.dial(), dialer.dial())?;
    Ok([first, second, third, fourth])
}

#[async_trait]
impl Backend for RedisBackend {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            survives: Survival::HubCrash,
            layouts: &[Layout::Flat, Layout::Packed],
            sharing: Sharing::Shared,
            gap_counts: GapCounts::BestEffort,
            event_bytes_max: self.shared.options.event_bytes_max,
            find_precision: Duration::from_millis(1),
        }
    }

    async fn guarantee(&self, durability: Durability) -> Result<Guarantee> {
        health::guarantee(&self.shared, durability).await
    }

    async fn create_topic(&self, name: &TopicName, settings: &TopicSettings) -> Result<()> {
        topics::create(&self.shared, name, settings).await
    }

    async fn delete_topic(&self, name: &TopicName, settings: &TopicSettings) -> Result<()> {
        topics::delete(&self.shared, name, settings).await
    }

    async fn list_topics(&self) -> Result<Vec<TopicName>> {
        topics::list(&self.shared).await
    }

    async fn open(&self, partition: &PartitionId, settings: &TopicSettings) -> Result<Arc<dyn EventLog>> {
        if partition.partition >= settings.partitions {
            return Err(topics::no_such_partition(partition, settings));
        }
        let keys = keys::Keys::of(partition, settings.partitions);
        let packed = settings.layout == Layout::Packed;
        Ok(Arc::new(Log::new(self.shared.clone(), Partition { id: partition.clone(), keys, packed })))
    }

    fn meta(&self) -> Arc<dyn MetaStore> {
        Arc::new(meta::Meta::new(self.shared.clone()))
    }

    async fn health(&self) -> Health {
        health::health(&self.shared).await
    }

    async fn shutdown(&self, deadline: Duration) {
        self.shared.room.close();
        self.io.stop(deadline).await;
    }
}
