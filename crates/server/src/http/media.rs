//! What a publish request's body is, told from its headers.

use http::{HeaderMap, header};
use synapse_hub_core::{Code, Error, Result};

/// The prefix of the headers of a CloudEvent in binary mode.
pub(crate) const CE_PREFIX: &str = "ce-";

/// The forms in which events are published over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Media {
    /// One flat JSON object, or an array of them.
    Flat,
    /// One flat JSON object a line.
    Lines,
    /// One CloudEvent as a JSON object.
    Structured,
    /// CloudEvents as a JSON array.
    Batched,
    /// One CloudEvent: attributes in headers, data in the body, which is of this media type.
    Binary(Option<String>),
}

/// What the body is.
///
/// # Errors
/// `unsupported_media_type`, `invalid_argument` when the header is there twice.
pub(crate) fn of(headers: &HeaderMap) -> Result<Media> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next();
    if values.next().is_some() {
        let what = "the header `Content-Type` is there more than once";
        return Err(Error::new(Code::InvalidArgument, what).field("content-type"));
    }
    let text = match value {
        Some(value) => Some(value.to_str().map_err(|_| unsupported("?"))?.trim()),
        None => None,
    };
    let essence = text.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence.starts_with("application/cloudevents") {
        check_charset(text)?;
        return match essence.as_str() {
            "application/cloudevents+json" => Ok(Media::Structured),
            "application/cloudevents-batch+json" => Ok(Media::Batched),
            _ => Err(unsupported(&essence)),
        };
    }
    if headers.keys().any(|name| name.as_str().starts_with(CE_PREFIX)) {
        return Ok(Media::Binary(text.filter(|text| !text.is_empty()).map(str::to_owned)));
    }
    check_charset(text)?;
    match essence.as_str() {
        "" | "application/json" | "text/json" => Ok(Media::Flat),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => {
            Ok(Media::Lines)
        }
        _ => Err(unsupported(&essence)),
    }
}

/// Whether the client asks for this media type by name.
pub(crate) fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let wanted = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(media));
        wanted && !parts.any(|parameter| matches!(parameter.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00"))
    })
}

/// JSON is UTF-8.
fn check_charset(text: Option<&str>) -> Result<()> {
    let parameters = text.unwrap_or_default().split(';').skip(1);
    for parameter in parameters {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset")
            && !["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        {
            let what = "JSON is sent as UTF-8 (RFC 8259)";
            return Err(Error::new(Code::UnsupportedMediaType, what).field("content-type"));
        }
    }
    Ok(())
}

fn unsupported(essence: &str) -> Error {
    let shown: String = essence.chars().take(80).collect();
    let hint = if essence == "application/x-www-form-urlencoded" {
        " (curl says so unless it is told `-H 'content-type: application/json'`)"
    } else {
        ""
    };
    let what = format!(
        "{shown:?} is not accepted here{hint}; send application/json, application/x-ndjson, application/cloudevents+json, \
         application/cloudevents-batch+json, or a CloudEvent in binary mode with its `ce-` headers"
    );
    Error::new(Code::UnsupportedMediaType, what).field("content-type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_and_the_ce_headers_tell_what_the_body_is() {
        for (content_type, ce, expected) in [
            (None, false, Ok(Media::Flat)),
            (Some("application/json"), false, Ok(Media::Flat)),
            (Some("Application/JSON; Charset=\"UTF-8\""), false, Ok(Media::Flat)),
            (Some("application/json; charset=latin1"), false, Err(Code::UnsupportedMediaType)),
            (Some("application/x-ndjson"), false, Ok(Media::Lines)),
            (Some("application/cloudevents+json; charset=utf-8"), false, Ok(Media::Structured)),
            (Some("application/cloudevents+json"), true, Ok(Media::Structured)),
            (Some("application/cloudevents-batch+json"), false, Ok(Media::Batched)),
            (Some("application/cloudevents+avro"), true, Err(Code::UnsupportedMediaType)),
            (Some("application/json"), true, Ok(Media::Binary(Some("application/json".into())))),
            (Some("text/plain; charset=latin1"), true, Ok(Media::Binary(Some("text/plain; charset=latin1".into())))),
            (None, true, Ok(Media::Binary(None))),
            (Some("text/plain"), false, Err(Code::UnsupportedMediaType)),
            (Some("application/x-www-form-urlencoded"), false, Err(Code::UnsupportedMediaType)),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(content_type) = content_type {
                headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            }
            if ce {
                headers.insert("ce-id", "1".parse().unwrap());
            }
            assert_eq!(of(&headers).map_err(|error| error.code()), expected, "{content_type:?}");
        }
    }

    #[test]
    fn a_media_type_is_given_to_those_who_name_it() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json;q=0.5, Text/Event-Stream; q=0.9", true),
            ("text/event-stream;q=0", false),
            ("*/*", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(accepts(&headers, "text/event-stream"), expected, "{accept}");
        }
    }
}
