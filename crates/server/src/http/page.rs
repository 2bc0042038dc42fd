//! A page of events as JSON.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Uri, header};
use serde::Serialize;
use serde_json::value::RawValue;
use synapse_hub_core::{PartitionId, Point, Timestamp, TopicPattern, backend};
use synapse_hub_hub::{Item, Subscription};
use utoipa::ToSchema;

use super::{
    problem::{Failure, Result},
    subscribe::{self, Format, Wanted},
};
use crate::app::App;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    /// The events, oldest first within each partition, as flat objects or CloudEvents.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Box<RawValue>>,
    /// Where each event stands.
    places: Vec<Place>,
    /// History that is missing.
    gaps: Vec<GapNote>,
    /// Where the next page starts: its `replay_from`.
    cursor: String,
    /// There is more now.
    more: bool,
}

/// Where an event stands.
#[derive(Debug, Serialize, ToSchema)]
struct Place {
    /// The topic.
    topic: String,
    /// The partition.
    partition: u32,
    /// The position within it.
    position: String,
}

/// History that is missing.
#[derive(Debug, Serialize, ToSchema)]
struct GapNote {
    /// The topic.
    topic: String,
    /// The partition.
    partition: u32,
    /// The position after which events are missing.
    after: String,
    /// The earliest position that is still there.
    earliest: Option<String>,
    /// How many are missing, where that is known.
    lost: Option<u64>,
    /// Why: `trimmed`, `recreated`, `unreadable`.
    reason: &'static str,
}

pub(crate) async fn page(app: App, topics: Vec<TopicPattern>, uri: &Uri, headers: &HeaderMap) -> Result<Response> {
    let (Wanted { mut request, format }, mut query) =
        subscribe::wanted(topics, uri, headers, app.hub.limits(), Point::Earliest)?;
    let limit = query.number("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    subscribe::finish(query)?;
    // A page never waits for what is yet to come.
    request.until = match request.until {
        Some(Point::Time(time)) if time > Timestamp::now() => Some(Point::Latest),
        None => Some(Point::Latest),
        until => until,
    };
    request.batch_events_max = Some(limit);
    let subscription = app.hub.subscribe(request).await?;
    let page = collect(subscription, format, limit, app.hub.limits().body_bytes).await?;
    let body = serde_json::to_vec(&page).map_err(|error| {
        Failure::new(synapse_hub_core::Code::Internal, format!("the page cannot be written: {error}"))
    })?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Takes events until there are enough of them, or enough bytes, or no more.
async fn collect(mut subscription: Subscription, format: Format, limit: usize, bytes_max: usize) -> Result<EventPage> {
    let cursor = subscription.cursor().to_string();
    let mut page = EventPage { events: Vec::new(), places: Vec::new(), gaps: Vec::new(), cursor, more: false };
    let mut bytes = 0;
    while let Some(item) = subscription.next().await {
        match item? {
            Item::Gap { .. } if page.events.len() >= limit || bytes >= bytes_max => {
                page.more = true;
                break;
            }
            Item::Delivery(delivery) => {
                for record in delivery.records() {
                    if page.events.len() >= limit || bytes >= bytes_max {
                        page.more = true;
                        return Ok(page);
                    }
                    let mut text = Vec::new();
                    format.write(&record.event, &mut text);
                    bytes += text.len();
                    page.events.push(raw(text)?);
                    page.places.push(Place::new(delivery.partition(), record.position));
                    page.cursor = delivery.cursor_text(record.position);
                }
            }
            Item::Gap { partition, gap, cursor } => {
                page.gaps.push(GapNote::new(&partition, &gap));
                page.cursor = cursor.to_string();
            }
            // Its end is ahead of the log: what there is now is the page.
            Item::Heartbeat(cursor) | Item::Ended { cursor, .. } => {
                page.cursor = cursor.to_string();
                break;
            }
        }
    }
    Ok(page)
}

fn raw(text: Vec<u8>) -> Result<Box<RawValue>> {
    let text = String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok());
    text.ok_or_else(|| Failure::new(synapse_hub_core::Code::StorageCorrupt, "a stored event is not JSON"))
}

impl Place {
    fn new(partition: &PartitionId, position: synapse_hub_core::Position) -> Self {
        Self { topic: partition.topic.to_string(), partition: partition.partition, position: position.to_string() }
    }
}

impl GapNote {
    fn new(partition: &PartitionId, gap: &backend::Gap) -> Self {
        Self {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            after: gap.after.to_string(),
            earliest: gap.earliest.map(|position| position.to_string()),
            lost: gap.lost,
            reason: gap.reason.as_str(),
        }
    }
}
