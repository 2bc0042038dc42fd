//! `POST /v1/topics/{topic}/events`: publishing in every form that HTTP has.

use axum::{
    Json,
    extract::{Request, State},
};
use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderName};
use serde::Serialize;
use synapse_hub_core::{Code, Durability, TopicName, backend::ProducerBatch, cloudevents, flat, json};
use synapse_hub_hub::{Limits, Payload, Publication, Published};
use utoipa::ToSchema;

use super::{
    binary, body,
    extract::Topic,
    media::{self, Media},
    problem::{Failure, Problem, RefusedEvent, Result},
    query::Query,
};
use crate::{app::App, trace};

static PRODUCER_ID: HeaderName = HeaderName::from_static("synapse-producer-id");
static PRODUCER_SEQUENCE: HeaderName = HeaderName::from_static("synapse-producer-sequence");

/// What became of the events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublishReply {
    /// The topic.
    topic: String,
    /// Each event of the request, in order; null for one that was refused.
    events: Vec<Option<StoredEvent>>,
    /// What the storage gives, in words, such as `stored` or `redis appendfsync=everysec`.
    durability: String,
    /// The same batch was stored before, and was recognised by its producer's number: these are its first positions.
    duplicate: bool,
    /// Events that the topic's `dedup_window` recognised, by index: theirs are the first positions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deduplicated: Vec<u32>,
    /// Events that were refused; only with `partial=true`, else the request fails as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedEvent>,
}

/// An event that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoredEvent {
    /// Its id: the one it had, or the one it was given.
    id: String,
    /// The partition.
    partition: u32,
    /// Where it stands in the partition.
    position: String,
}

/// Publish events
///
/// The body is one flat JSON object (`{"event": "model-ready", …}`), an array of them, or one a line
/// (`application/x-ndjson`); or CloudEvents 1.0 in binary mode (`ce-` headers), structured or batched. It may be
/// compressed (`Content-Encoding`: gzip, deflate, zstd). A batch is stored whole or not at all, unless `partial=true`.
///
/// A reply means: stored as durably as the topic says. An event without `id`, `timestamp` or `source` gets them; the
/// header `traceparent` is given to events that have no trace context.
#[utoipa::path(
    post,
    path = "/v1/topics/{topic}/events",
    tag = "events",
    params(
        ("topic" = String, Path, description = "The topic"),
        ("partial" = Option<bool>, Query, description = "Store what is acceptable and name what is refused"),
        ("partitionkey" = Option<String>, Query, description = "Events with one key keep their order: the key of events that have none of their own"),
        ("durability" = Option<String>, Query, description = "`memory`, `stored` or `synced`: what the reply must promise, instead of what the topic says"),
        ("Synapse-Producer-Id" = Option<String>, Header, description = "Names the publisher, so that a request sent again is recognised; 1 to 64 bytes"),
        ("Synapse-Producer-Sequence" = Option<u64>, Header, description = "The number of this request among the publisher's for this topic: 1, 2, 3, … A request sent again has the number it had"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context for events that have none of their own"),
        ("x-request-id" = Option<String>, Header, description = "Names the request in logs and in the reply"),
    ),
    request_body(
        content(
            (serde_json::Value = "application/json", example = json!({"event": "model-ready", "model_name": "classifier", "version": "v2.0"})),
            (String = "application/x-ndjson"),
            (serde_json::Value = "application/cloudevents+json"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
            (Vec<u8> = "*/*"),
        ),
        description = "One event or several; `*/*` is a CloudEvent in binary mode"
    ),
    responses(
        (status = 200, description = "Stored", body = PublishReply),
        (status = "default", description = "Not stored", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn publish(
    State(app): State<App>,
    Topic(topic): Topic,
    request: Request,
) -> Result<Json<PublishReply>> {
    let (head, content) = request.into_parts();
    let mut query = Query::parse(&head.uri)?;
    let partial = query.flag("partial")?;
    let durability = query.one("durability")?.as_deref().map(durability).transpose()?;
    let partition_key = query.one("partitionkey")?.unwrap_or_default();
    query.finish("partial, durability, partitionkey")?;
    let producer = producer(&head.headers)?;
    let media = media::of(&head.headers)?;
    let limits = app.hub.limits();
    let content = body::read(&head.headers, content, limits.body_bytes, app.config.http.body_timeout).await?;
    let Some(mut payload) = payload(&media, &head.headers, content, limits)? else {
        return Ok(Json(nothing(&topic)));
    };
    if !partition_key.is_empty() {
        payload = keyed(payload, &partition_key.into(), limits);
    }
    let traceparent = trace::parent(&head.headers);
    let publication = Publication { topic: topic.clone(), payload, durability, producer, partial, traceparent };
    let published = app.hub.publish(publication).await?.await?;
    reply(&topic, published, partial).map(Json)
}

fn durability(text: &str) -> Result<Durability> {
    match text {
        "memory" => Ok(Durability::Memory),
        "stored" => Ok(Durability::Stored),
        "synced" => Ok(Durability::Synced),
        _ => Err(Failure::argument("durability", "`durability` is `memory`, `stored` or `synced`")),
    }
}

/// Who publishes, for the recognition of retries.
fn producer(headers: &HeaderMap) -> Result<Option<ProducerBatch>> {
    fn wrong<T>(name: &HeaderName, what: &str) -> Result<T> {
        Err(Failure::argument(name.as_str(), what))
    }
    let one = |name: &HeaderName| -> Result<Option<ByteString>> {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match value.to_str() {
            Ok(text) if values.next().is_none() => Ok(Some(text.into())),
            Ok(_) => wrong(name, "the header is there more than once"),
            Err(_) => wrong(name, "the header is not visible ASCII"),
        }
    };
    match (one(&PRODUCER_ID)?, one(&PRODUCER_SEQUENCE)?) {
        (None, None) => Ok(None),
        (Some(id), Some(sequence)) => match sequence.parse() {
            Ok(sequence) => Ok(Some(ProducerBatch { id, sequence })),
            Err(_) => wrong(&PRODUCER_SEQUENCE, "it is a number from 1 on"),
        },
        (Some(_), None) => {
            wrong(&PRODUCER_SEQUENCE, "`Synapse-Producer-Id` needs `Synapse-Producer-Sequence` beside it")
        }
        (None, Some(_)) => wrong(&PRODUCER_ID, "`Synapse-Producer-Sequence` needs `Synapse-Producer-Id` beside it"),
    }
}

/// The events of a body; `None` for the empty batch, which CloudEvents allows.
fn payload(media: &Media, headers: &HeaderMap, content: Bytes, limits: &Limits) -> Result<Option<Payload>> {
    let blank = content.trim_ascii().is_empty();
    if blank && !matches!(media, Media::Binary(_)) {
        let what = "the body is empty; send at least one event, such as {\"event\": \"model-ready\"}";
        return Err(Failure::new(Code::EmptyBatch, what));
    }
    Ok(Some(match media {
        Media::Flat if is_array(&content) => Payload::Flat(items(&content, limits)?),
        Media::Flat => Payload::Flat(vec![content]),
        Media::Lines => Payload::Flat(lines(&content, limits)?),
        Media::Structured => Payload::Read(vec![cloudevents::decode(&content, limits.json_depth)]),
        Media::Batched => {
            let events = cloudevents::decode_batch(&content, limits.json_depth, limits.batch_events)?;
            if events.is_empty() {
                return Ok(None);
            }
            Payload::Read(events)
        }
        Media::Binary(content_type) => Payload::Read(vec![binary::decode(headers, content_type.as_deref(), content)]),
    }))
}

/// These events, with this partition key where they have none.
fn keyed(payload: Payload, key: &ByteString, limits: &Limits) -> Payload {
    let mut events = match payload {
        Payload::Flat(texts) => texts.iter().map(|text| flat::decode(text, limits.json_depth)).collect(),
        Payload::Read(events) => events,
        other => return other,
    };
    for event in events.iter_mut().flatten() {
        if event.more().partition_key.is_empty() {
            event.more_mut().partition_key = key.clone();
        }
    }
    Payload::Read(events)
}

fn is_array(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'[')
}

/// The items of a JSON array, as slices of it.
fn items(text: &Bytes, limits: &Limits) -> Result<Vec<Bytes>> {
    json::check_depth(text, limits.json_depth + 1)?;
    let items = cloudevents::split_array(text, limits.batch_events)?;
    Ok(items.into_iter().map(|item| text.slice_ref(item.get().as_bytes())).collect())
}

/// The lines of NDJSON, as slices of it; blank lines are none.
fn lines(text: &Bytes, limits: &Limits) -> Result<Vec<Bytes>> {
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let lines: Vec<Bytes> = lines.take(limits.batch_events + 1).map(|line| text.slice_ref(line)).collect();
    if lines.len() > limits.batch_events {
        let what = format!(
            "more than {} events in one request (`limits.batch_events`); send several requests",
            limits.batch_events
        );
        return Err(Failure::new(Code::BatchTooLarge, what));
    }
    Ok(lines)
}

fn nothing(topic: &TopicName) -> PublishReply {
    PublishReply {
        topic: topic.to_string(),
        events: Vec::new(),
        durability: String::new(),
        duplicate: false,
        deduplicated: Vec::new(),
        refused: Vec::new(),
    }
}

fn reply(topic: &TopicName, published: Published, partial: bool) -> Result<PublishReply> {
    let Published { positions, ids, duplicate, deduplicated, refused, guarantee, .. } = published;
    let nothing_stored = positions.iter().all(Option::is_none);
    if !refused.is_empty() && (!partial || nothing_stored) {
        let error = crate::publishing::whole_refusal(&refused, positions.len()).topic(topic.as_str());
        // A request of one event is answered with what is wrong with that event.
        let refused = if positions.len() == 1 { Vec::new() } else { refused };
        return Err(Failure { error, refused });
    }
    let stored = positions.into_iter().zip(ids).map(|(placed, id)| {
        placed.map(|placed| StoredEvent {
            id: id.into(),
            partition: placed.partition,
            position: placed.position.to_string(),
        })
    });
    Ok(PublishReply {
        topic: topic.to_string(),
        events: stored.collect(),
        durability: guarantee.as_ref().to_owned(),
        duplicate,
        deduplicated,
        refused: refused.into_iter().map(RefusedEvent::from).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_share_the_body_and_blank_ones_are_none() {
        let limits = Limits { batch_events: 2, ..Limits::default() };
        let text = Bytes::from_static(b"{\"a\":1}\r\n\n  \n{\"b\":2}");
        assert_eq!(lines(&text, &limits).unwrap(), [&b"{\"a\":1}"[..], b"{\"b\":2}"]);
        let error = lines(&Bytes::from_static(b"1\n2\n3\n"), &limits).unwrap_err().error;
        assert_eq!(error.code(), Code::BatchTooLarge);
    }

    #[test]
    fn a_producer_has_both_its_headers_once() {
        let read = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            producer(&headers).map_err(|failure| failure.error.field_path().map(str::to_owned))
        };
        let (id, sequence) = ("synapse-producer-id", "synapse-producer-sequence");
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(id, "p"), (sequence, "7")]), Ok(Some(ProducerBatch { id: "p".into(), sequence: 7 })));
        assert_eq!(read(&[(id, "p")]), Err(Some(sequence.into())));
        assert_eq!(read(&[(sequence, "7")]), Err(Some(id.into())));
        assert_eq!(read(&[(id, "p"), (sequence, "-7")]), Err(Some(sequence.into())));
        assert_eq!(read(&[(id, "p"), (id, "q"), (sequence, "7")]), Err(Some(id.into())));
    }
}
