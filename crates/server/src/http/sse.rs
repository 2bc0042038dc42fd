//! Subscriptions as server-sent events (WHATWG HTML, section 9.2).
//!
//! The stream is pulled by the connection: nothing is taken from the subscription before the client has room for it.

use std::convert::Infallible;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::json;
use synapse_hub_core::{Cursor, Point, TopicPattern};
use synapse_hub_hub::{Delivery, EndReason, Item, Subscription};

use super::{
    problem::{Problem, Result},
    query::Query,
    subscribe::{self, Format, Wanted},
};
use crate::app::App;

/// The id of the last message of a stream that came to its end: an EventSource that connects again with it is told that
/// there is no more.
const ENDED_ID: &str = "end";
/// About how much of a delivery is written at a time: what a connection holds for a client that does not read.
const PIECE_BYTES: usize = 32 << 10;

pub(crate) async fn stream(app: App, topics: Vec<TopicPattern>, uri: &Uri, headers: &HeaderMap) -> Result<Response> {
    let mut query = Query::parse(uri)?;
    if subscribe::last_event_id(headers, &mut query)?.as_deref() == Some(ENDED_ID) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (Wanted { request, format }, mut query) =
        subscribe::wanted(topics, uri, headers, app.hub.limits(), Point::Latest)?;
    let named = query.flag("event_names")?;
    subscribe::finish(query)?;
    let subscription = app.hub.subscribe(request).await?;
    let retry_ms = app.config.subscriptions.sse_retry.as_millis();
    let mut response = Response::new(Body::from_stream(messages(subscription, Writer { format, named }, retry_ms)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would otherwise hold messages back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn messages(
    subscription: Subscription,
    writer: Writer,
    retry_ms: u128,
) -> impl Stream<Item = std::result::Result<Bytes, Infallible>> {
    // The cursor comes first, so that a client that loses its connection before the first event misses nothing.
    let first = format!("retry: {retry_ms}\nid: {}\n\n", subscription.cursor());
    let state = (subscription, Some(Bytes::from(first)), None);
    futures::stream::unfold(state, move |(mut subscription, first, mut rest)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (subscription, None, rest)));
        }
        let (delivery, start) = match rest.take() {
            Some(rest) => rest,
            None => match subscription.next().await? {
                Ok(Item::Delivery(delivery)) => (delivery, 0),
                other => return Some((Ok(writer.item(other)), (subscription, None, None))),
            },
        };
        let (message, end) = writer.delivery(&delivery, start);
        let rest = (end < delivery.len()).then_some((delivery, end));
        Some((Ok(message), (subscription, None, rest)))
    })
}

/// Writes what a subscription yields.
#[derive(Debug, Clone, Copy)]
struct Writer {
    format: Format,
    /// Messages are named by the event's type.
    named: bool,
}

impl Writer {
    fn item(self, item: synapse_hub_core::Result<Item>) -> Bytes {
        match item {
            Ok(Item::Delivery(delivery)) => self.delivery(&delivery, 0).0,
            // Without data it is no message: it only moves the client's cursor on, and keeps the connection alive.
            Ok(Item::Heartbeat(cursor)) => format!(": heartbeat\nid: {cursor}\n\n").into(),
            Ok(Item::Gap { partition, gap, cursor }) => {
                let data = json!({
                    "topic": partition.topic.as_str(),
                    "partition": partition.partition,
                    "after": gap.after.to_string(),
                    "earliest": gap.earliest.map(|position| position.to_string()),
                    "lost": gap.lost,
                    "reason": gap.reason.as_str(),
                    "cursor": cursor.to_string(),
                });
                named_message(Some(&cursor.to_string()), "gap", &data.to_string())
            }
            Ok(Item::Ended { cursor, reason }) => ended(&cursor, reason),
            Err(error) => named_message(None, "problem", &Problem::text(error)),
        }
    }

    /// The events from `start` on that make about [`PIECE_BYTES`], and the index after them.
    fn delivery(self, delivery: &Delivery, start: usize) -> (Bytes, usize) {
        let mut out = Vec::with_capacity(PIECE_BYTES);
        let mut scratch = Vec::new();
        let mut end = start;
        for (index, record) in delivery.records().enumerate().skip(start) {
            if out.len() >= PIECE_BYTES {
                break;
            }
            end = index + 1;
            field("id", delivery.cursor_text(record.position).as_bytes(), &mut out);
            if self.named {
                field("event", &one_line(record.event.kind()), &mut out);
            }
            match self.format {
                Format::Flat => field("data", &delivery.flat_at(index), &mut out),
                Format::CloudEvents => {
                    scratch.clear();
                    self.format.write(&record.event, &mut scratch);
                    field("data", &scratch, &mut out);
                }
            }
            out.push(b'\n');
        }
        (out.into(), end)
    }
}

fn ended(cursor: &Cursor, reason: EndReason) -> Bytes {
    let cursor = cursor.to_string();
    // Another hub, or this one when it is back, goes on where this stream ends; the other ends are final.
    let (id, reason) = match reason {
        EndReason::Until => (ENDED_ID, "until"),
        EndReason::TopicDeleted => (ENDED_ID, "topic_deleted"),
        EndReason::Shutdown => (cursor.as_str(), "shutdown"),
    };
    named_message(Some(id), "end", &json!({"reason": reason, "cursor": cursor}).to_string())
}

fn named_message(id: Option<&str>, name: &str, data: &str) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + 64);
    if let Some(id) = id {
        field("id", id.as_bytes(), &mut out);
    }
    field("event", name.as_bytes(), &mut out);
    field("data", data.as_bytes(), &mut out);
    out.push(b'\n');
    out.into()
}

/// A field of a message. Events are written as one line, and so is everything else here.
fn field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A type that holds a line break must not end the field.
fn one_line(kind: &str) -> Vec<u8> {
    kind.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_with_a_line_break_does_not_end_its_field() {
        assert_eq!(one_line("a\nevent: end\r"), b"a event: end ");
    }
}
