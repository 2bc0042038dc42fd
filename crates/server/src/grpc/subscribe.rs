//! `EventService.Subscribe`.
//!
//! The stream is pulled by the connection: nothing is taken from the subscription before the client has room for it.

use futures::Stream;
use synapse_hub_core::{Code, Error, Event, Point, Result, cloudevents};
use synapse_hub_hub::{Delivery, EndReason, Filters, Item, SubscribeRequest, Subscription};
use synapse_hub_proto::v1::{self, ended::Reason, subscribe_response};
use tonic::Status;

use super::status;
use crate::{VERSION, app::App};

/// The longest name of a client, in characters.
const CLIENT_NAME_CHARS_MAX: usize = 100;

pub(super) async fn subscribe(
    app: &App,
    request: v1::SubscribeRequest,
) -> Result<impl Stream<Item = Result<v1::SubscribeResponse, Status>> + Send + use<>> {
    let format = match v1::Format::try_from(request.format) {
        Ok(v1::Format::Unspecified | v1::Format::Events) => v1::Format::Events,
        Ok(v1::Format::Flat) => v1::Format::Flat,
        Err(_) => {
            let what = "the format is not known to this version of the hub";
            return Err(Error::new(Code::InvalidArgument, what).field("format"));
        }
    };
    let subscription = app.hub.subscribe(wanted(app, request)?).await?;
    Ok(responses(subscription, format))
}

fn wanted(app: &App, request: v1::SubscribeRequest) -> Result<SubscribeRequest> {
    let point = |text: &str, field: &str| -> Result<Option<Point>> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error: Error| error.field(field))
    };
    let at_most = |value: u32| (value > 0).then_some(value as usize);
    Ok(SubscribeRequest {
        topics: request.topics.iter().map(|topic| topic.parse()).collect::<Result<_>>()?,
        filters: Filters::parse(&request.filters, app.hub.limits())?,
        replay_from: point(&request.replay_from, "replay_from")?.unwrap_or(Point::Latest),
        until: point(&request.until, "until")?,
        batch_events_max: at_most(request.batch_events_max),
        batch_bytes_max: at_most(request.batch_bytes_max),
        client_name: request.client_name.chars().take(CLIENT_NAME_CHARS_MAX).collect(),
    })
}

fn responses(
    subscription: Subscription,
    format: v1::Format,
) -> impl Stream<Item = Result<v1::SubscribeResponse, Status>> + Send {
    let started = v1::Started { cursor: subscription.cursor().to_string(), hub_version: VERSION.into() };
    let started = Some(subscribe_response::Item::Started(started));
    futures::stream::unfold((subscription, started), move |(mut subscription, started)| async move {
        let response = match started {
            Some(started) => Ok(started),
            None => subscription.next().await?.map(|item| response(item, format)),
        };
        let response = response.map(|item| v1::SubscribeResponse { item: Some(item) });
        Some((response.map_err(|error| status::status(&error)), (subscription, None)))
    })
}

fn response(item: Item, format: v1::Format) -> subscribe_response::Item {
    use subscribe_response::Item as Wire;
    match item {
        Item::Delivery(delivery) => Wire::Delivery(deliver(&delivery, format)),
        Item::Gap { partition, gap, cursor } => Wire::Gap(v1::Gap {
            topic: partition.topic.as_str().into(),
            partition: partition.partition,
            after: gap.after.to_string(),
            earliest: gap.earliest.map_or_else(String::new, |position| position.to_string()),
            lost: gap.lost,
            reason: gap.reason.as_str().into(),
            cursor: cursor.to_string(),
        }),
        Item::Heartbeat(cursor) => Wire::Heartbeat(v1::Heartbeat { cursor: cursor.to_string() }),
        Item::Ended { cursor, reason } => {
            let reason = match reason {
                EndReason::Until => Reason::Until,
                EndReason::Shutdown => Reason::Shutdown,
                EndReason::TopicDeleted => Reason::TopicDeleted,
            };
            Wire::Ended(v1::Ended { cursor: cursor.to_string(), reason: reason.into() })
        }
    }
}

fn deliver(delivery: &Delivery, format: v1::Format) -> v1::Delivery {
    let mut wire = v1::Delivery {
        topic: delivery.partition().topic.as_str().into(),
        partition: delivery.partition().partition,
        positions: delivery.records().map(|record| record.position.to_string()).collect(),
        cursor_rest: delivery.cursor_rest().into(),
        ..v1::Delivery::default()
    };
    if format == v1::Format::Events {
        wire.batch = delivery.encoded();
        return wire;
    }
    wire.flat = delivery.flat();
    for (index, record) in delivery.records().enumerate() {
        let kind = record.event.kind();
        match (wire.types.last(), wire.type_counts.last_mut()) {
            (Some(last), Some(count)) if last.as_str() == &**kind => *count += 1,
            _ => {
                wire.types.push(kind.to_string());
                wire.type_counts.push(1);
            }
        }
        if record.event.has_more() {
            let attributes = beyond_flat(&record.event);
            wire.attributes.push(v1::FlatAttributes { index: index as u32, attributes });
        }
    }
    wire
}

/// The attributes that the flat object has no place for.
fn beyond_flat(event: &Event) -> Vec<v1::Attribute> {
    let mut attributes = Vec::new();
    cloudevents::for_each_attribute(event, |name, value| {
        if !matches!(name, "id" | "source" | "type" | "time" | "correlationid") {
            attributes.push(v1::Attribute { name: name.into(), value: value.into() });
        }
    });
    attributes
}
