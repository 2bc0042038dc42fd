//! The client: a connection, publishing, topics.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prost::Message as _;
use serde::Serialize;
use synapse_hub_proto::v1::{
    self, CreateTopicRequest, DeleteTopicRequest, DescribeTopicRequest, InfoRequest, ListTopicsRequest, PublishRequest,
    TopicDescription, TrimTopicRequest, event_service_client::EventServiceClient, hub_service_client::HubServiceClient,
    publish_request::Payload, topic_service_client::TopicServiceClient,
};
use tokio::sync::Semaphore;
use tonic::{
    codegen::http::uri::{InvalidUri, Uri},
    transport::{Channel, Endpoint},
};

use crate::{
    Error, Publisher, PublisherOptions, Result, SubscribeOptions, Subscription, publisher, retry::Backoff, subscription,
};

/// The address of a hub on this machine.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8002";

/// The port of an address that names none.
const DEFAULT_PORT: u16 = 8002;

/// How many publish calls one client has under way at once. The hub remembers 64 batches of a producer, and calls may
/// overtake each other.
const CALLS_MAX: usize = 32;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// For how long a publish is tried, all attempts together.
    pub publish_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The largest message that is read, in bytes.
    pub message_bytes_max: usize,
    /// A name for the hub's logs.
    pub name: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            message_bytes_max: 64 << 20,
            name: String::new(),
        }
    }
}

/// A client of a hub. Cheap to clone; clones share a connection, which is made when it is first needed.
#[derive(Clone)]
pub struct Client {
    pub(crate) channel: Channel,
    pub(crate) options: ClientOptions,
    numbers: Arc<Numbers>,
}

/// The numbers by which the hub recognises retries.
struct Numbers {
    producer: String,
    next: Mutex<std::collections::HashMap<String, u64>>,
    calls: Semaphore,
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
    /// The id of each event.
    pub ids: Vec<String>,
    /// The hub had stored this batch before.
    pub duplicate: bool,
    /// The events that a deduplication window recognised, by index.
    pub deduplicated: Vec<u32>,
    /// What was refused, when partial acceptance was asked for.
    pub refused: Vec<v1::Refusal>,
    /// What the storage gives, in words.
    pub durability: String,
}

/// An event of this type with JSON data.
///
/// # Errors
/// `invalid_json` when the data cannot be written as JSON.
pub fn event(kind: &str, data: &impl Serialize) -> Result<v1::Event> {
    let data = serde_json::to_vec(data).map_err(|error| Error::new("invalid_json", error.to_string()))?;
    Ok(v1::Event { r#type: kind.into(), data: data.into(), ..v1::Event::default() })
}

/// The address of a hub in full: without a scheme it is `http://`, without a port 8002.
///
/// # Errors
/// `invalid_argument` when no hub can be there, or when it asks for TLS, which this client has not.
pub fn hub_address(url: &str) -> Result<String> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let scheme = with_scheme.split_once("://").map_or("", |(scheme, _)| scheme);
    if scheme.eq_ignore_ascii_case("https") {
        let advice = "use http:// on a network that you trust, or a local proxy (sidecar) that speaks TLS to the hub";
        return Err(Error::new(
            "invalid_argument",
            format!("{url:?} asks for TLS, which this build of the client does not have; {advice}"),
        ));
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(no_address(url, &format!("the scheme `{scheme}` is none that hubs speak")));
    }
    let uri: Uri = with_scheme.parse().map_err(|error: InvalidUri| no_address(url, &error.to_string()))?;
    let authority = uri.authority().ok_or_else(|| no_address(url, "it names no host"))?.as_str();
    let path = uri.path().trim_end_matches('/');
    if uri.port_u16().is_some() {
        return Ok(format!("http://{authority}{path}"));
    }
    let host = authority.strip_suffix(':').unwrap_or(authority);
    if uri.host().is_none_or(|name| name.is_empty() || !host.ends_with(name)) {
        return Err(no_address(url, "the port is no number up to 65535"));
    }
    Ok(format!("http://{host}:{DEFAULT_PORT}{path}"))
}

fn no_address(url: &str, why: &str) -> Error {
    Error::new("invalid_argument", format!("{url:?} is no address of a hub: {why}; write it like {DEFAULT_URL}"))
}

impl Client {
    /// A client of the hub at `SYNAPSE_URL`, or at [`DEFAULT_URL`].
    ///
    /// # Errors
    /// `invalid_argument` when the address cannot be.
    pub fn from_env() -> Result<Self> {
        let url = std::env::var("SYNAPSE_URL").unwrap_or_else(|_| DEFAULT_URL.into());
        Self::new(&url, ClientOptions::default())
    }

    /// A client of the hub at this address; see [`hub_address`]. Nothing is connected yet.
    ///
    /// # Errors
    /// `invalid_argument` when the address cannot be.
    pub fn new(url: &str, options: ClientOptions) -> Result<Self> {
        let address = hub_address(url)?;
        let endpoint = Endpoint::from_shared(address)
            .map_err(|error| no_address(url, &error.to_string()))?
            .tcp_nodelay(true)
            .connect_timeout(options.connect_timeout)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        let numbers = Numbers {
            producer: uuid::Uuid::new_v4().simple().to_string(),
            next: Mutex::default(),
            calls: Semaphore::new(CALLS_MAX),
        };
        Ok(Self { channel: endpoint.connect_lazy(), options, numbers: Arc::new(numbers) })
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
            .max_decoding_message_size(self.options.message_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }

    /// Publishes a batch, with the durability of the topic. Retries are safe and done by themselves.
    ///
    /// # Errors
    /// `batch_refused` with what was refused, and everything the hub says.
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
    pub async fn publish_flat(
        &self,
        topic: &str,
        objects: Vec<bytes::Bytes>,
        options: PublishOptions,
    ) -> Result<Published> {
        self.publish_payload(topic, Payload::Flat(v1::FlatBatch { events: objects }), options).await
    }

    async fn publish_payload(&self, topic: &str, payload: Payload, options: PublishOptions) -> Result<Published> {
        let _call = self.numbers.calls.acquire().await.map_err(|_| Error::new("internal", "the client is closed"))?;
        let sequence = {
            let mut next = self.numbers.next.lock();
            let number = next.entry(topic.to_owned()).or_insert(0);
            *number += 1;
            *number
        };
        let request = PublishRequest {
            topic: topic.into(),
            payload: Some(payload),
            durability: options.durability.into(),
            producer_id: self.numbers.producer.clone(),
            producer_sequence: sequence,
            partial: options.partial,
            request_id: 0,
        };
        let response = self
            .retried(|| async { self.events().publish(request.clone()).await.map(tonic::Response::into_inner) })
            .await?;
        if !response.refused.is_empty() && !options.partial {
            return Err(Error::refused(response.refused));
        }
        Ok(Published {
            partitions: if response.partitions.is_empty() {
                vec![0; response.positions.len()]
            } else {
                response.partitions
            },
            positions: response.positions,
            ids: response.ids,
            duplicate: response.duplicate,
            deduplicated: response.deduplicated,
            refused: response.refused,
            durability: response.durability,
        })
    }

    async fn retried<T, F: Future<Output = Result<T, tonic::Status>>>(&self, call: impl Fn() -> F) -> Result<T> {
        let deadline = Instant::now() + self.options.publish_timeout;
        let mut backoff = Backoff::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match tokio::time::timeout(left, call()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(status)) => Error::from(status),
                Err(_) => {
                    let what = format!("no answer within {:?}", self.options.publish_timeout);
                    return Err(Error { retryable: true, ..Error::new("timeout", what) });
                }
            };
            let wait = backoff.next(error.retry_after);
            if !error.retryable || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// A publisher that pipelines batches.
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
        Topics(TopicServiceClient::new(self.channel.clone()))
    }

    /// What the hub says of itself.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn info(&self) -> Result<v1::InfoResponse> {
        Ok(HubServiceClient::new(self.channel.clone()).info(InfoRequest {}).await?.into_inner())
    }
}

/// The topics of a hub.
pub struct Topics(TopicServiceClient<Channel>);

impl Topics {
    /// All topics, or those that match a pattern.
    ///
    /// # Errors
    /// What the hub says.
    pub async fn list(&mut self, pattern: &str) -> Result<Vec<TopicDescription>> {
        Ok(self.0.list_topics(ListTopicsRequest { pattern: pattern.into() }).await?.into_inner().topics)
    }

    /// One topic with what it holds.
    ///
    /// # Errors
    /// `topic_not_found`.
    pub async fn describe(&mut self, topic: &str) -> Result<TopicDescription> {
        Ok(self.0.describe_topic(DescribeTopicRequest { topic: topic.into() }).await?.into_inner())
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// `topic_exists`, `invalid_topic_settings`.
    pub async fn create(
        &mut self,
        topic: &str,
        settings: v1::TopicSettings,
        if_not_exists: bool,
    ) -> Result<TopicDescription> {
        let request = CreateTopicRequest { topic: topic.into(), settings: Some(settings), if_not_exists };
        Ok(self.0.create_topic(request).await?.into_inner())
    }

    /// Deletes a topic with all its events.
    ///
    /// # Errors
    /// `topic_not_found`.
    pub async fn delete(&mut self, topic: &str) -> Result<()> {
        self.0.delete_topic(DeleteTopicRequest { topic: topic.into() }).await?;
        Ok(())
    }

    /// Removes the oldest events: everything before a place (empty: none), or all but the latest so many a partition
    /// (0: no limit). Returns how many, where the hub can say.
    ///
    /// # Errors
    /// `topic_not_found`, `invalid_replay_point`, `invalid_argument`.
    pub async fn trim(&mut self, topic: &str, before: &str, keep_events: u64) -> Result<Option<u64>> {
        let request = TrimTopicRequest { topic: topic.into(), before: before.into(), keep_events };
        Ok(self.0.trim_topic(request).await?.into_inner().removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_is_that_of_a_hub() {
        for (given, full) in [
            ("localhost", "http://localhost:8002"),
            ("localhost:9", "http://localhost:9"),
            ("http://host", "http://host:8002"),
            ("http://host/", "http://host:8002"),
            ("HTTP://host:80", "http://host:80"),
            ("http://[::1]", "http://[::1]:8002"),
            ("[::1]:80", "http://[::1]:80"),
            ("http://host/prefix/", "http://host:8002/prefix"),
            (DEFAULT_URL, DEFAULT_URL),
        ] {
            assert_eq!(hub_address(given).unwrap(), full, "{given}");
        }
        for (given, why) in [
            ("https://host", "TLS"),
            ("HTTPS://host:8002", "TLS"),
            ("ftp://host", "`ftp`"),
            ("http://", "no address"),
            ("", "no address"),
            ("a b", "no address"),
            ("host:port", "no address"),
        ] {
            let error = hub_address(given).unwrap_err();
            assert!(error.code == "invalid_argument" && error.message.contains(why), "{given}: {error}");
        }
    }
}
