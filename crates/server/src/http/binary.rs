//! CloudEvents in binary mode over HTTP: attributes in `ce-` headers, data in the body.
//!
//! Follows the [HTTP protocol binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md),
//! section 3.1.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use http::HeaderMap;
use synapse_hub_core::{Code, Error, Event, Result, cloudevents};

use super::media::CE_PREFIX;

/// Reads the event of a request.
///
/// # Errors
/// `invalid_event` and `invalid_timestamp`, naming the attribute.
pub(crate) fn decode(headers: &HeaderMap, content_type: Option<&str>, body: Bytes) -> Result<Event> {
    let mut event = Event::default();
    let mut has_version = false;
    for name in headers.keys() {
        let Some(attribute) = name.as_str().strip_prefix(CE_PREFIX) else { continue };
        let wrong = |what: &str| Err(Error::new(Code::InvalidEvent, what).field(attribute.to_owned()));
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return wrong("its header is there more than once");
        };
        if attribute == "datacontenttype" {
            return wrong("in binary mode it is the header `Content-Type`; leave `ce-datacontenttype` out");
        }
        let Some(text) = header_text(value.as_bytes()) else {
            return wrong("its header is not UTF-8 when it is unquoted and percent-decoded");
        };
        has_version |= attribute == "specversion";
        cloudevents::set_attribute(&mut event, attribute, text)?;
    }
    cloudevents::check_required(&event, has_version)?;
    if let Some(media) = content_type {
        cloudevents::set_attribute(&mut event, "datacontenttype", media.into())?;
    }
    event.set_data(body);
    Ok(event)
}

/// The value of an attribute from that of its header: unquoted, then percent-decoded once.
fn header_text(raw: &[u8]) -> Option<ByteString> {
    let unquoted = unquote(raw);
    let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode(&unquoted).into();
    String::from_utf8(decoded.into_owned()).ok().map(ByteString::from)
}

/// A quoted string (RFC 7230, section 3.2.6) without its quotes and backslashes; anything else as it is.
fn unquote(raw: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = raw else { return raw.into() };
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_unquoted_and_percent_decoded_once() {
        for (raw, expected) in [
            ("plain", Some("plain")),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", Some("Euro € 😀")),
            ("Euro%20%e2%82%ac", Some("Euro €")),
            ("%2541", Some("%41")),
            ("100%", Some("100%")),
            (r#""a \"b\" c""#, Some(r#"a "b" c"#)),
            (r#""a%20b""#, Some("a b")),
            ("\"", Some("\"")),
            ("%C0%A0", None),
            ("%ff", None),
        ] {
            assert_eq!(header_text(raw.as_bytes()).as_deref(), expected, "{raw}");
        }
    }
}
