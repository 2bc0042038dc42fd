//! Topics as resources: `/v1/topics` and `/v1/topics/{topic}`.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use synapse_hub_core::{Code, Durability, Error, Layout, Point, TopicName, TopicPattern, TopicSettings};
use synapse_hub_hub::{TopicDescription, TrimRequest};
use utoipa::ToSchema;

use super::{
    body,
    extract::Topic,
    problem::{Failure, Problem, Result},
    query::Query,
};
use crate::{
    app::App,
    catalog::{self, AskedSettings},
};

const LIMIT_DEFAULT: usize = 1000;
const LIMIT_MAX: usize = 10_000;

/// What an acknowledgement of a publish promises.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum DurabilityName {
    Memory,
    Stored,
    Synced,
}

/// How events lie in a backend that has a choice.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LayoutName {
    Flat,
    Packed,
}

/// The settings of a topic. What is left out in a request is as the hub's configuration says (`[topics.default]`).
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Number of partitions: order holds within a partition.
    #[schema(minimum = 1, maximum = 1024)]
    partitions: Option<u32>,
    /// What an acknowledgement promises, unless a request asks for another level.
    durability: Option<DurabilityName>,
    /// On Redis: one entry an event, or one a batch.
    layout: Option<LayoutName>,
    /// The same `source` and `id` within this window are stored once; 0 for never.
    dedup_window_ms: Option<u64>,
    /// Events older than this are removed; 0 for never.
    retention_ms: Option<u64>,
    /// The oldest events are removed once a partition holds more bytes than this; 0 for no limit.
    retention_bytes: Option<u64>,
    /// The oldest events are removed once a partition holds more events than this; 0 for no limit.
    retention_events: Option<u64>,
}

/// A topic with what it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicView {
    /// Its name.
    topic: String,
    /// Its settings.
    settings: Settings,
    /// What its durability means on this backend, in words.
    durability: String,
    /// The level that is really given.
    durability_given: DurabilityName,
    /// Created through Synapse; false when it was found on the backend.
    declared: bool,
    /// Version of its settings.
    revision: u64,
    /// Its partitions, in order.
    partitions: Vec<PartitionView>,
}

/// What a partition holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PartitionView {
    /// Its number.
    partition: u32,
    /// The position of its earliest event; null when it is empty.
    earliest: Option<String>,
    /// The position of its latest event; null when it is empty.
    latest: Option<String>,
    /// How many events it holds, where the backend can say.
    events: Option<u64>,
    /// How many bytes they take, where the backend can say.
    bytes: Option<u64>,
}

/// Topics, in order of name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicList {
    /// The topics.
    topics: Vec<TopicView>,
    /// There are more: ask again with `after` the last name.
    more: bool,
}

/// Which of a topic's oldest events to remove.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Trim {
    /// What stands before this: a date, a date-time, a duration ago, a position, or `latest` for everything.
    before: Option<String>,
    /// All but the latest so many a partition.
    keep_events: Option<u64>,
}

/// What a trim did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Trimmed {
    /// How many events were removed, where the backend can say.
    removed: Option<u64>,
    /// What is left.
    topic: TopicView,
}

/// List topics
#[utoipa::path(
    get,
    path = "/v1/topics",
    tag = "topics",
    params(
        ("pattern" = Option<String>, Query, description = "A name or a pattern (`pipeline.*`, `document.>`)"),
        ("after" = Option<String>, Query, description = "Only names after this one"),
        ("limit" = Option<usize>, Query, description = "The most topics, default 1000"),
    ),
    responses(
        (status = 200, description = "The topics", body = TopicList),
        (status = "default", description = "Not possible", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(State(app): State<App>, request: Request) -> Result<Json<TopicList>> {
    let mut query = Query::parse(request.uri())?;
    let pattern: Option<TopicPattern> = query.one("pattern")?.map(|text| text.parse()).transpose()?;
    let after = query.one("after")?;
    let limit = query.number("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    query.finish("pattern, after, limit")?;
    let mut names = app.hub.topics().list(pattern.as_ref()).await?;
    if let Some(after) = after {
        names.retain(|name| name.as_str() > after.as_str());
    }
    let more = names.len() > limit;
    names.truncate(limit);
    let topics = catalog::describe_all(&app.hub, names).await?;
    Ok(Json(TopicList { topics: topics.into_iter().map(TopicView::from).collect(), more }))
}

/// Describe a topic
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic")),
    responses(
        (status = 200, description = "The topic", body = TopicView),
        (status = "default", description = "Not possible", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn describe(State(app): State<App>, Topic(topic): Topic, request: Request) -> Result<Json<TopicView>> {
    Query::parse(request.uri())?.finish("")?;
    Ok(Json(app.hub.topics().describe(&topic).await?.into()))
}

/// Create a topic
///
/// Succeeds as well when the topic exists with the same settings, unless `If-None-Match: *` says that it must be new.
#[utoipa::path(
    put,
    path = "/v1/topics/{topic}",
    tag = "topics",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: fail when the topic exists"),
    ),
    request_body(content = Option<Settings>, content_type = "application/json"),
    responses(
        (status = 200, description = "It exists with these settings", body = TopicView),
        (status = 201, description = "It was created", body = TopicView),
        (status = "default", description = "Not possible", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(State(app): State<App>, Topic(topic): Topic, request: Request) -> Result<Response> {
    let must_be_new = must_be_new(request.headers())?;
    let settings: Settings = read_json(&app, request).await?;
    let settings = settings.asked().complete(&app.hub.options().default_topic);
    let topics = app.hub.topics();
    match topics.create(&topic, settings.clone(), false).await {
        Ok(created) => Ok((StatusCode::CREATED, Json(TopicView::from(created))).into_response()),
        Err(error) if error.code() == Code::TopicExists && !must_be_new => {
            Ok(Json(TopicView::from(topics.create(&topic, settings, true).await?)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// Delete a topic
///
/// With all its events. Its subscribers are told.
#[utoipa::path(
    delete,
    path = "/v1/topics/{topic}",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic")),
    responses(
        (status = 204, description = "It was deleted"),
        (status = "default", description = "Not possible", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(State(app): State<App>, Topic(topic): Topic, request: Request) -> Result<StatusCode> {
    Query::parse(request.uri())?.finish("")?;
    app.hub.topics().delete(&topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Trim a topic
///
/// Removes its oldest events: everything before a place in history, or all but the latest so many.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/trim",
    tag = "topics",
    params(("topic" = String, Path, description = "The topic")),
    request_body(content = Trim, content_type = "application/json", example = json!({"before": "-7d"})),
    responses(
        (status = 200, description = "What was removed and what is left", body = Trimmed),
        (status = "default", description = "Not possible", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn trim(State(app): State<App>, Topic(topic): Topic, request: Request) -> Result<Json<Trimmed>> {
    let trim: Trim = read_json(&app, request).await?;
    let before: Option<Point> = match trim.before {
        Some(text) => Some(text.parse().map_err(|error: Error| error.field("before"))?),
        None => None,
    };
    let trim = TrimRequest { before, keep_events: trim.keep_events };
    let (removed, topic) = app.hub.topics().trim(&topic, trim).await?;
    Ok(Json(Trimmed { removed, topic: topic.into() }))
}

fn must_be_new(headers: &HeaderMap) -> Result<bool> {
    match headers.get(header::IF_NONE_MATCH) {
        None => Ok(false),
        Some(value) if value == "*" => Ok(true),
        Some(_) => Err(Failure::argument("if-none-match", "only `If-None-Match: *` means something here")),
    }
}

/// Reads a body of JSON; an empty one is the default.
async fn read_json<T: DeserializeOwned + Default>(app: &App, request: Request) -> Result<T> {
    let (head, content) = request.into_parts();
    Query::parse(&head.uri)?.finish("")?;
    let limits = app.hub.limits();
    let text = body::read(&head.headers, content, limits.body_bytes, app.config.http.body_timeout).await?;
    if text.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    check_json_media(&head.headers)?;
    parse(&text)
}

fn parse<T: DeserializeOwned>(text: &Bytes) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| {
        let code = if error.is_data() { Code::InvalidArgument } else { Code::InvalidJson };
        Failure::new(code, format!("the body cannot be read: {error}"))
    })
}

fn check_json_media(headers: &HeaderMap) -> Result<()> {
    let media = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let essence = media.map(|media| media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match essence.as_deref() {
        None | Some("application/json" | "text/json") => Ok(()),
        Some(_) => {
            let what = "the body here is application/json";
            Err(Error::new(Code::UnsupportedMediaType, what).field("content-type").into())
        }
    }
}

impl Settings {
    fn asked(self) -> AskedSettings {
        AskedSettings {
            partitions: self.partitions,
            durability: self.durability.map(Durability::from),
            layout: self.layout.map(Layout::from),
            dedup_window_ms: self.dedup_window_ms,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            retention_events: self.retention_events,
        }
    }
}

impl From<TopicSettings> for Settings {
    fn from(settings: TopicSettings) -> Self {
        let millis = |duration: Option<std::time::Duration>| duration.map(catalog::millis);
        Self {
            partitions: Some(settings.partitions),
            durability: Some(settings.durability.into()),
            layout: Some(settings.layout.into()),
            dedup_window_ms: millis(settings.dedup_window),
            retention_ms: millis(settings.retention_time),
            retention_bytes: settings.retention_bytes,
            retention_events: settings.retention_events,
        }
    }
}

impl From<TopicDescription> for TopicView {
    fn from(topic: TopicDescription) -> Self {
        let partitions = topic.partitions.into_iter().map(|partition| PartitionView {
            partition: partition.partition,
            earliest: partition.bounds.earliest.map(|position| position.to_string()),
            latest: partition.bounds.latest.map(|position| position.to_string()),
            events: partition.bounds.events,
            bytes: partition.bounds.bytes,
        });
        Self {
            topic: name(&topic.topic),
            settings: topic.settings.into(),
            durability: topic.guarantee.text,
            durability_given: topic.guarantee.level.into(),
            declared: topic.declared,
            revision: topic.revision,
            partitions: partitions.collect(),
        }
    }
}

fn name(topic: &TopicName) -> String {
    topic.as_str().to_owned()
}

impl From<Durability> for DurabilityName {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Memory => Self::Memory,
            Durability::Stored => Self::Stored,
            Durability::Synced => Self::Synced,
        }
    }
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Memory => Self::Memory,
            DurabilityName::Stored => Self::Stored,
            DurabilityName::Synced => Self::Synced,
        }
    }
}

impl From<Layout> for LayoutName {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Flat => Self::Flat,
            Layout::Packed => Self::Packed,
        }
    }
}

impl From<LayoutName> for Layout {
    fn from(name: LayoutName) -> Self {
        match name {
            LayoutName::Flat => Self::Flat,
            LayoutName::Packed => Self::Packed,
        }
    }
}
