//! The gRPC surface: `synapse.v1`, health and reflection, on the same port as HTTP.

mod convert;
mod hub;
mod publish;
mod status;
mod subscribe;
mod topics;

use std::{pin::Pin, time::Duration};

use axum::Router;
use futures::Stream;
use synapse_hub_core::{Code, Error};
use synapse_hub_proto::{
    DESCRIPTORS,
    v1::{
        self, event_service_server::EventServiceServer, hub_service_server::HubServiceServer,
        topic_service_server::TopicServiceServer,
    },
};
use tonic::{Request, Response, Status, codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

pub(crate) use self::status::{complete_error, no_method, status};
use crate::app::App;

/// What a message may be larger than its events.
const ENVELOPE_BYTES: usize = 64 << 10;
/// How often the health service looks at the hub.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

type Reply<T> = Result<Response<T>, Status>;
type ReplyStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// All services as routes, to be merged with those of HTTP.
///
/// # Errors
/// When the compiled-in descriptors cannot be read, which a test rules out.
pub(crate) fn routes(app: &App) -> synapse_hub_core::Result<Router> {
    let bytes_max = app.hub.limits().body_bytes + ENVELOPE_BYTES;
    // Responses are not compressed: most clients say that they accept gzip, and few would want to pay for it.
    let events = EventServiceServer::new(Events { app: app.clone() })
        .max_decoding_message_size(bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let topics = TopicServiceServer::new(Topics { app: app.clone() }).max_decoding_message_size(bytes_max);
    let hub = HubServiceServer::new(HubInfo { app: app.clone() }).max_decoding_message_size(bytes_max);

    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(report_health(app.clone(), reporter));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let unreadable = |error: tonic_reflection::server::Error| {
        Error::new(Code::Internal, format!("the gRPC descriptors cannot be read: {error}"))
    };
    let routes = Routes::new(events)
        .add_service(topics)
        .add_service(hub)
        .add_service(health)
        .add_service(reflection().build_v1().map_err(unreadable)?)
        .add_service(reflection().build_v1alpha().map_err(unreadable)?);
    Ok(routes.prepare().into_axum_router().reset_fallback())
}

/// Keeps the health service as the hub is.
async fn report_health(app: App, reporter: HealthReporter) {
    let names = [
        "",
        <EventServiceServer<Events> as tonic::server::NamedService>::NAME,
        <TopicServiceServer<Topics> as tonic::server::NamedService>::NAME,
        <HubServiceServer<HubInfo> as tonic::server::NamedService>::NAME,
    ];
    let stopping = app.hub.shutting_down();
    loop {
        let ready = app.hub.health().await.ready;
        let serving = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in names {
            reporter.set_service_status(name, serving).await;
        }
        if stopping.is_cancelled() {
            return;
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(HEALTH_INTERVAL) => {}
        }
    }
}

/// The service of events.
struct Events {
    app: App,
}

/// The service of topics.
struct Topics {
    app: App,
}

/// The service of the hub itself.
struct HubInfo {
    app: App,
}

#[tonic::async_trait]
impl v1::event_service_server::EventService for Events {
    type PublishStreamStream = ReplyStream<v1::PublishResponse>;
    type SubscribeStream = ReplyStream<v1::SubscribeResponse>;

    async fn publish(&self, request: Request<v1::PublishRequest>) -> Reply<v1::PublishResponse> {
        self.app.counted("Publish", publish::publish(&self.app, request).await)
    }

    async fn publish_stream(
        &self,
        request: Request<tonic::Streaming<v1::PublishRequest>>,
    ) -> Reply<Self::PublishStreamStream> {
        let responses: Self::PublishStreamStream = Box::pin(publish::stream(self.app.clone(), request));
        self.app.counted("PublishStream", Ok(Response::new(responses)))
    }

    async fn subscribe(&self, request: Request<v1::SubscribeRequest>) -> Reply<Self::SubscribeStream> {
        let responses = subscribe::subscribe(&self.app, request.into_inner()).await;
        self.app.counted("Subscribe", responses.map(|responses| Response::new(Box::pin(responses) as _)))
    }
}

#[tonic::async_trait]
impl v1::topic_service_server::TopicService for Topics {
    async fn list_topics(&self, request: Request<v1::ListTopicsRequest>) -> Reply<v1::ListTopicsResponse> {
        let response = topics::list(&self.app.hub, request.into_inner()).await;
        self.app.counted("ListTopics", response.map(Response::new))
    }

    async fn describe_topic(&self, request: Request<v1::DescribeTopicRequest>) -> Reply<v1::TopicDescription> {
        let response = topics::describe(&self.app.hub, request.into_inner()).await;
        self.app.counted("DescribeTopic", response.map(Response::new))
    }

    async fn create_topic(&self, request: Request<v1::CreateTopicRequest>) -> Reply<v1::TopicDescription> {
        let response = topics::create(&self.app.hub, request.into_inner()).await;
        self.app.counted("CreateTopic", response.map(Response::new))
    }

    async fn delete_topic(&self, request: Request<v1::DeleteTopicRequest>) -> Reply<v1::DeleteTopicResponse> {
        let response = topics::delete(&self.app.hub, request.into_inner()).await;
        self.app.counted("DeleteTopic", response.map(Response::new))
    }

    async fn trim_topic(&self, request: Request<v1::TrimTopicRequest>) -> Reply<v1::TrimTopicResponse> {
        let response = topics::trim(&self.app.hub, request.into_inner()).await;
        self.app.counted("TrimTopic", response.map(Response::new))
    }
}

#[tonic::async_trait]
impl v1::hub_service_server::HubService for HubInfo {
    async fn info(&self, _request: Request<v1::InfoRequest>) -> Reply<v1::InfoResponse> {
        let response = hub::info(&self.app.hub).await;
        self.app.counted("Info", Ok::<_, Error>(Response::new(response)))
    }
}

impl App {
    /// Counts a call, and makes a failure a gRPC status.
    fn counted<T>(&self, method: &'static str, outcome: Result<T, Error>) -> Result<T, Status> {
        let code = outcome.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok");
        self.metrics.call(method, code);
        outcome.map_err(|error| status(&error))
    }
}
