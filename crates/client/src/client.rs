//! The client: connecting, publishing in single calls, and the way to everything else.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use serde::Serialize;
use synapse_hub_proto::v1::{
    self, InfoRequest, PublishRequest, event_service_client::EventServiceClient, hub_service_client::HubServiceClient,
    publish_request::Payload, topic_service_client::TopicServiceClient,
};
use tonic::transport::Channel;

use crate::{
    Error, Publisher, PublisherOptions, Result, SubscribeOptions, Subscription, Topics,
    connection::{Connections, Seat, now_nanos},
    publisher,
    retry::{Backoff, within},
    sequence::Sequence,
    subscription,
};

/// The address of a hub on this machine.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8002";

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// For how long a publish is tried, all attempts together.
    pub publish_timeout: Duration,
    /// How long the answer to any other call may take.
    pub call_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The largest message that is read, in bytes.
    pub message_bytes_max: usize,
    /// A name for the hub's logs, such as the service's.
    pub name: String,
    /// A certificate authority that is trusted besides the public ones, as PEM; for `https://`.
    pub ca_pem: Option<Vec<u8>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            message_bytes_max: 64 << 20,
            name: String::new(),
            ca_pem: None,
        }
    }
}

/// A client of a hub. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    connections: Arc<Connections>,
    pub(crate) options: Arc<ClientOptions>,
    /// Names this client to the hub, for the recognition of batches that are sent again.
    producer: Arc<str>,
    sequences: Arc<Mutex<HashMap<String, Arc<Sequence>>>>,
}

/// How a batch is to be published.
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    /// What the reply must promise; unspecified means what the topic says.
    pub durability: v1::Durability,
    /// Store what is acceptable, rather than refusing the batch whole.
    pub partial: bool,
}

/// What became of a batch.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Where each event stands; empty text for a refused one.
    pub positions: Vec<String>,
    /// The partition of each event.
    pub partitions: Vec<u32>,
    /// The id of each event, where the hub gave any of them; empty otherwise.
    pub ids: Vec<String>,
    /// The hub had stored this batch before: an earlier attempt had arrived.
    pub duplicate: bool,
    /// The events that a deduplication window recognised, by index.
    pub deduplicated: Vec<u32>,
    /// What was refused, when partial acceptance was asked for.
    pub refused: Vec<v1::Refusal>,
    /// What the storage gives, in words, such as `redis appendonly=yes appendfsync=everysec`.
    pub durability: String,
}

/// An event of this type with JSON data. Further attributes are fields of [`Event`](crate::Event); what is absent
/// (`id`, `time_unix_nanos`, `source`) the hub fills in.
///
/// ```
/// # fn main() -> Result<(), synapse_hub_client::Error> {
/// let mut event = synapse_hub_client::event("model-ready", &serde_json::json!({"model_name": "classifier"}))?;
/// event.source = "trainer".into();
/// assert_eq!(event.data, br#"{"model_name":"classifier"}"#.as_slice());
/// # Ok(()) }
/// ```
///
/// # Errors
/// `invalid_json` when the data cannot be written as JSON.
pub fn event(kind: &str, data: &impl Serialize) -> Result<v1::Event> {
    let data = serde_json::to_vec(data).map_err(|error| Error::new("invalid_json", error.to_string()))?;
    Ok(v1::Event { r#type: kind.into(), data: data.into(), ..v1::Event::default() })
}

impl Client {
    /// A client of the hub at `SYNAPSE_URL`, or at [`DEFAULT_URL`]. Nothing is connected yet.
    ///
    /// # Errors
    /// `invalid_argument` when the address cannot be.
    pub fn from_env() -> Result<Self> {
        let url = std::env::var("SYNAPSE_URL").ok().filter(|url| !url.is_empty());
        Self::new(url.as_deref().unwrap_or(DEFAULT_URL), ClientOptions::default())
    }

    /// A client of the hub at this address, with the default options. Nothing is connected yet.
    ///
    /// # Errors
    /// `invalid_argument` when the address cannot be.
    pub fn connect_lazy(url: &str) -> Result<Self> {
        Self::new(url, ClientOptions::default())
    }

    /// A client of the hub at this address. Nothing is connected yet, so it does not matter whether the hub runs.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// `invalid_argument` when the address cannot be.
    pub fn new(url: &str, options: ClientOptions) -> Result<Self> {
        Ok(Self::over(Connections::lazy(url, &options)?, options))
    }

    /// As [`Client::new`], and connects now.
    ///
    /// # Errors
    /// `unreachable` when nothing listens at the address.
    pub async fn connect(url: &str, options: ClientOptions) -> Result<Self> {
        Ok(Self::over(Connections::eager(url, &options).await?, options))
    }

    fn over(connections: Arc<Connections>, options: ClientOptions) -> Self {
        let producer = uuid::Uuid::new_v4().simple().to_string().into();
        Self { connections, options: Arc::new(options), producer, sequences: Arc::default() }
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        self.events_over(self.connections.channel())
    }

    pub(crate) fn events_over(&self, channel: Channel) -> EventServiceClient<Channel> {
        EventServiceClient::new(channel)
            .max_decoding_message_size(self.options.message_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }

    pub(crate) fn seat(&self) -> Seat {
        self.connections.seat()
    }

    /// Publishes a batch with the durability of the topic, and returns when it is stored. An attempt whose answer was
    /// lost is made again by itself, and the hub stores the batch once.
    ///
    /// For throughput use [`Client::publisher`].
    ///
    /// # Errors
    /// `batch_refused` (or, for a single event, why it was refused) with [`Error::refused`]: nothing is stored then;
    /// `unreachable` and `timeout` when the hub cannot be reached within [`ClientOptions::publish_timeout`]; and
    /// whatever else the hub says.
    pub async fn publish(&self, topic: &str, events: Vec<v1::Event>) -> Result<Published> {
        self.publish_with(topic, events, PublishOptions::default()).await
    }

    /// As [`Client::publish`], with options.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish_with(
        &self,
        topic: &str,
        events: Vec<v1::Event>,
        options: PublishOptions,
    ) -> Result<Published> {
        let batch = v1::EventBatch { events }.encode_to_vec();
        self.publish_payload(topic, Payload::Batch(batch.into()), options).await
    }

    /// Publishes flat ModelKit objects, each one JSON object as text.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish_flat(&self, topic: &str, objects: Vec<Bytes>, options: PublishOptions) -> Result<Published> {
        self.publish_payload(topic, Payload::Flat(v1::FlatBatch { events: objects }), options).await
    }

    async fn publish_payload(&self, topic: &str, payload: Payload, options: PublishOptions) -> Result<Published> {
        let sequence = self.sequences.lock().entry(topic.to_owned()).or_default().clone();
        let number = sequence.take().await;
        let request = PublishRequest {
            topic: topic.into(),
            payload: Some(payload),
            durability: options.durability.into(),
            producer_id: self.producer.as_ref().into(),
            producer_sequence: number.value,
            partial: options.partial,
            request_id: 0,
        };
        let response = self.publish_until_answered(&request).await?;
        if !response.refused.is_empty() && !options.partial {
            return Err(Error::refused(response.refused));
        }
        let partitions = match response.partitions.is_empty() {
            true => vec![0; response.positions.len()],
            false => response.partitions,
        };
        Ok(Published {
            positions: response.positions,
            partitions,
            ids: response.ids,
            duplicate: response.duplicate,
            deduplicated: response.deduplicated,
            refused: response.refused,
            durability: response.durability,
        })
    }

    async fn publish_until_answered(&self, request: &PublishRequest) -> Result<v1::PublishResponse> {
        let deadline = Instant::now() + self.options.publish_timeout;
        let mut backoff = Backoff::default();
        loop {
            // An answer that is lost must leave time for another attempt; the hub tells a repeated one by its number.
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = left.min(self.options.publish_timeout / 3).max(Duration::from_millis(1));
            let error = match within(patience, self.events().publish(request.clone())).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let wait = backoff.next(error.retry_after);
            if !error.retryable || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// A publisher that pipelines: for many events.
    ///
    /// Must be called within a Tokio runtime.
    pub fn publisher(&self, topic: &str, options: PublisherOptions) -> Publisher {
        publisher::start(self.clone(), topic.to_owned(), options)
    }

    /// Opens a subscription, which resumes by itself from then on.
    ///
    /// # Errors
    /// When the hub cannot be reached or refuses.
    pub async fn subscribe(&self, options: SubscribeOptions) -> Result<Subscription> {
        subscription::open(self.clone(), options).await
    }

    /// The topics of the hub.
    pub fn topics(&self) -> Topics {
        let calls = TopicServiceClient::new(self.connections.channel())
            .max_decoding_message_size(self.options.message_bytes_max);
        Topics { calls, timeout: self.options.call_timeout }
    }

    /// What the hub says of itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn info(&self) -> Result<v1::InfoResponse> {
        let mut calls = HubServiceClient::new(self.connections.channel());
        within(self.options.call_timeout, calls.info(InfoRequest {})).await
    }

    /// By how many nanoseconds the hub's clock is ahead of this machine's (negative: behind), give or take half the
    /// time that asking took, which comes second.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn clock_skew(&self) -> Result<(i64, Duration)> {
        let (asked, before) = (Instant::now(), now_nanos());
        let info = self.info().await?;
        let took = asked.elapsed();
        let midway = before.saturating_add(i64::try_from(took.as_nanos() / 2).unwrap_or(i64::MAX));
        Ok((info.time_unix_nanos.saturating_sub(midway), took))
    }
}
