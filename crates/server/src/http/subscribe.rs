//! `GET /v1/topics/{topics}/events`: as server-sent events, or a page of JSON.

use axum::{
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderName, Uri, header};
use synapse_hub_core::{Cursor, Event, Point, TopicPattern, cloudevents, flat};
use synapse_hub_hub::{Filters, Limits, SubscribeRequest};

use super::{
    extract::Topics,
    media,
    page::{self, EventPage},
    problem::{Failure, Problem, Result},
    query::Query,
    sse,
};
use crate::app::App;

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The longest name of a client in the logs, in characters.
const CLIENT_NAME_CHARS_MAX: usize = 100;
const PARAMETERS: &str =
    "replay_from, until, last_event_id, filter, filter.<key>, format, event_names (streams), limit (pages)";

/// Subscribe, or read a page
///
/// With `Accept: text/event-stream` a stream of server-sent events, from a point in history into the live stream. The
/// `id:` of every message is a cursor; EventSource resumes by itself with it. Messages have no `event:` name, so that
/// `onmessage` receives every type; `event_names=true` names each by its type. Three names are the hub's own: `gap`
/// (history is missing here), `end` (the stream ends, and why), `problem` (it ends with an error).
///
/// Otherwise one page of JSON, from `replay_from` (default `earliest`), and the cursor to go on from.
#[utoipa::path(
    get,
    path = "/v1/topics/{topic}/events",
    tag = "events",
    params(
        ("topic" = String, Path, description = "Topics: names or patterns (`pipeline.*`, `document.>`), with commas between them"),
        ("replay_from" = Option<String>, Query, description = "Where to start: `latest` (default of streams), `earliest`, a date, a date-time, a duration ago (`-90m`), a position or a cursor"),
        ("until" = Option<String>, Query, description = "Where to end, in the same forms; a stream without it does not end"),
        ("filter" = Option<Vec<String>>, Query, description = "An event pattern as JSON; several are alternatives"),
        ("filter.key" = Option<Vec<String>>, Query, description = "`filter.model_name=classifier`: the field has this value. Several fields must all have theirs; several values of one field are alternatives"),
        ("format" = Option<String>, Query, description = "`flat` (default) or `cloudevents`"),
        ("event_names" = Option<bool>, Query, description = "Streams: name every message by its type, for `addEventListener`"),
        ("last_event_id" = Option<String>, Query, description = "As the header `Last-Event-ID`, for clients that cannot set headers"),
        ("Last-Event-ID" = Option<String>, Header, description = "The cursor to resume after; wins over `replay_from`"),
        ("limit" = Option<usize>, Query, description = "Pages: the most events, default 100"),
    ),
    responses(
        (status = 200, description = "Events", content((EventPage = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "To an EventSource that connects again after the end: there is no more"),
        (status = "default", description = "Not possible", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn events(State(app): State<App>, Topics(topics): Topics, request: Request) -> Result<Response> {
    if media::accepts(request.headers(), "text/event-stream") {
        sse::stream(app, topics, request.uri(), request.headers()).await
    } else {
        page::page(app, topics, request.uri(), request.headers()).await
    }
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Flat,
    CloudEvents,
}

impl Format {
    /// The event as one JSON object.
    pub(crate) fn write(self, event: &Event, out: &mut Vec<u8>) {
        match self {
            Self::Flat => flat::encode_into(event, out),
            Self::CloudEvents => cloudevents::encode_into(event, out),
        }
    }
}

/// What the parameters that streams and pages share ask for.
pub(crate) struct Wanted {
    pub(crate) request: SubscribeRequest,
    pub(crate) format: Format,
}

/// Reads the parameters that streams and pages share. The others are left in the query.
pub(crate) fn wanted(
    topics: Vec<TopicPattern>,
    uri: &Uri,
    headers: &HeaderMap,
    limits: &Limits,
    default_from: Point,
) -> Result<(Wanted, Query)> {
    let mut query = Query::parse(uri)?;
    let format = match query.one("format")?.as_deref() {
        None | Some("flat") => Format::Flat,
        Some("cloudevents") => Format::CloudEvents,
        Some(_) => return Err(Failure::argument("format", "`format` is `flat` or `cloudevents`")),
    };
    let replay_from = query.point("replay_from")?;
    let until = query.point("until")?;
    let resume = last_event_id(headers, &mut query)?.map(|id| resume(&id)).transpose()?;
    let filters = filters(&mut query, limits)?;
    let replay_from = resume.or(replay_from).unwrap_or(default_from);
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let client_name = agent.chars().take(CLIENT_NAME_CHARS_MAX).collect();
    let request = SubscribeRequest { replay_from, until, filters, client_name, ..SubscribeRequest::new(topics) };
    Ok((Wanted { request, format }, query))
}

/// Refuses parameters that nobody took.
pub(crate) fn finish(query: Query) -> Result<()> {
    query.finish(PARAMETERS)
}

/// What an EventSource says it has seen last. The header wins: it is newer than what the address says.
pub(crate) fn last_event_id(headers: &HeaderMap, query: &mut Query) -> Result<Option<String>> {
    let parameter = query.one("last_event_id")?.filter(|id| !id.is_empty());
    let Some(header) = headers.get(&LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(parameter) };
    let text = header.to_str().map_err(|_| Failure::argument("last-event-id", "the header is not visible ASCII"))?;
    Ok(Some(text.to_owned()))
}

fn resume(id: &str) -> Result<Point> {
    let cursor = id.parse::<Cursor>().map_err(|error| error.field("last-event-id"))?;
    Ok(Point::Cursor(cursor))
}

/// `filter={…}` are patterns, alternatives of each other; `filter.key=value` together are one pattern.
fn filters(query: &mut Query, limits: &Limits) -> Result<Filters> {
    let mut patterns = query.all("filter");
    let shorthand = query.prefixed("filter.");
    if !patterns.is_empty() && !shorthand.is_empty() {
        let what =
            "give either patterns (`filter={…}`) or values (`filter.key=value`): together they could mean two things";
        return Err(Failure::argument("filter", what));
    }
    if !shorthand.is_empty() {
        patterns.push(shorthand_pattern(shorthand));
    }
    Ok(Filters::parse(&patterns, limits)?)
}

/// One pattern in which every key has one of its values. A value that reads as a number, a boolean or null is meant as
/// that or as text.
fn shorthand_pattern(pairs: Vec<(String, String)>) -> String {
    let mut pattern = serde_json::Map::new();
    for (key, value) in pairs {
        let alternatives = pattern.entry(key).or_insert_with(|| serde_json::Value::Array(Vec::new()));
        let Some(alternatives) = alternatives.as_array_mut() else { continue };
        match serde_json::from_str::<serde_json::Value>(&value) {
            Ok(typed) if !typed.is_string() && !typed.is_array() && !typed.is_object() => alternatives.push(typed),
            _ => {}
        }
        alternatives.push(value.into());
    }
    serde_json::Value::Object(pattern).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_the_address_means_the_text_or_what_it_reads_as() {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        for (pairs, pattern) in [
            (&[("model_name", "classifier")][..], r#"{"model_name":["classifier"]}"#),
            (&[("version", "1.0")], r#"{"version":[1.0,"1.0"]}"#),
            (&[("success", "true"), ("x", "null")], r#"{"success":[true,"true"],"x":[null,"null"]}"#),
            (&[("a", "1"), ("b", "x"), ("a", "y")], r#"{"a":[1,"1","y"],"b":["x"]}"#),
            (&[("a", "[1]"), ("b", "\"q\"")], r#"{"a":["[1]"],"b":["\"q\""]}"#),
        ] {
            assert_eq!(shorthand_pattern(own(pairs)), pattern);
        }
    }
}
