//! A hub of one's own for each test, and ways to talk to it.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::Value;
use synapse_hub_proto::v1::{
    event_service_client::EventServiceClient, hub_service_client::HubServiceClient,
    topic_service_client::TopicServiceClient,
};
use synapse_hub_server::{BackendUrl, Config, Server};
use tonic::transport::Channel;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A hub of one's own, on a free port, with its events in memory.
pub(crate) struct TestHub {
    pub(crate) server: Server,
    pub(crate) client: reqwest::Client,
    pub(crate) url: String,
}

pub(crate) async fn hub() -> TestHub {
    hub_with(|_| {}).await
}

pub(crate) async fn hub_with(change: impl FnOnce(&mut Config)) -> TestHub {
    let mut config = Config { listen: "127.0.0.1:0".into(), backend: BackendUrl::memory(), ..Config::default() };
    change(&mut config);
    let server = Server::start(config).await.unwrap();
    let url = format!("http://{}", server.address());
    TestHub { server, client: client_builder().timeout(PATIENCE).build().unwrap(), url }
}

pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // The client wants one to be chosen, also for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

impl TestHub {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, media: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request(Method::POST, path).header(header::CONTENT_TYPE, media).body(body)
    }

    /// Publishes JSON that must be accepted; gives the positions.
    pub(crate) async fn publish(&self, topic: &str, body: &Value) -> Vec<String> {
        let path = format!("/v1/topics/{topic}/events");
        let reply = ok(self.post(&path, "application/json", body.to_string())).await;
        let positions = reply["events"].as_array().unwrap().iter();
        positions.map(|event| event["position"].as_str().unwrap().to_owned()).collect()
    }

    /// Publishes events that carry these numbers.
    pub(crate) async fn publish_numbers(&self, topic: &str, numbers: std::ops::Range<u64>) -> Vec<String> {
        let events: Vec<Value> = numbers.map(|n| serde_json::json!({"event": "tick", "n": n})).collect();
        self.publish(topic, &Value::from(events)).await
    }

    /// A page of events.
    pub(crate) async fn page(&self, topics: &str, query: &str) -> Value {
        ok(self.get(&format!("/v1/topics/{topics}/events?{query}"))).await
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    pub(crate) async fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel().await)
    }

    pub(crate) async fn info(&self) -> HubServiceClient<Channel> {
        HubServiceClient::new(self.channel().await)
    }
}

/// The JSON of a request that must succeed.
pub(crate) async fn ok(request: RequestBuilder) -> Value {
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The problem of a request that must fail, with its status.
pub(crate) async fn problem(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let media = response.headers().get(header::CONTENT_TYPE).cloned();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let retry = response.headers().get(header::RETRY_AFTER).is_some();
    let text = response.text().await.unwrap();
    assert!(!status.is_success(), "{status}: {text}");
    assert_eq!(media.unwrap(), "application/problem+json", "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["status"], status.as_u16(), "{text}");
    assert_eq!(problem["request_id"], id, "{text}");
    assert_eq!(problem["retryable"], retry, "{text}");
    assert!(!problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty());
    assert_eq!(problem["type"], format!("urn:synapse:problem:{}", problem["code"].as_str().unwrap()));
    (status, problem)
}

/// The status and code of a request that must fail.
pub(crate) async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, problem) = problem(request).await;
    (status.as_u16(), problem["code"].as_str().unwrap().to_owned())
}

/// One message of a stream of server-sent events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) id: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) retry: Option<String>,
}

impl Message {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().expect("a message without data")).unwrap()
    }
}

/// A stream of server-sent events, read as the standard says.
pub(crate) struct EventSource {
    response: reqwest::Response,
    buffer: String,
}

impl EventSource {
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.header(header::ACCEPT, "text/event-stream").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The next block, also one without data; `None` at the end of the stream.
    pub(crate) async fn block(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                return Some(parse(&block));
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("the stream hangs").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next message with data.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            let block = self.block().await.expect("the stream has ended");
            if block.data.is_some() {
                return block;
            }
        }
    }

    /// The numbers of the next events.
    pub(crate) async fn numbers(&mut self, count: usize) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.len() < count {
            let message = self.next().await;
            assert_eq!(message.event, None, "{message:?}");
            numbers.push(message.json()["n"].as_u64().unwrap());
        }
        numbers
    }
}

fn parse(block: &str) -> Message {
    let mut message = Message::default();
    for line in block.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => message.comment = Some(value),
            "id" => message.id = Some(value),
            "event" => message.event = Some(value),
            "retry" => message.retry = Some(value),
            "data" => match &mut message.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                None => message.data = Some(value),
            },
            _ => panic!("{line:?} is no field of a server-sent event"),
        }
    }
    message
}

/// The numbers of the events of a page.
pub(crate) fn numbers(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["n"].as_u64().unwrap()).collect()
}

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
