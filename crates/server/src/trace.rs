//! W3C trace context: the `traceparent` of a request goes to the events that have none.

use bytestring::ByteString;
use http::HeaderMap;

/// The name of the header, of the gRPC metadata and of the event attribute.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The trace context of a request, if it has one that is well formed. One that is not is ignored, as the standard says.
pub(crate) fn parent(headers: &HeaderMap) -> Option<ByteString> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let text = values.next()?.to_str().ok()?;
    (values.next().is_none() && is_traceparent(text)).then(|| text.into())
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, in lower case, neither id all zeros.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, span, flags, rest @ ..] = parts.as_slice() else { return false };
    // Later versions may have more parts, version 00 has not.
    let whole = rest.is_empty() || *version != "00";
    let zeros = |text: &str| text.bytes().all(|byte| byte == b'0');
    whole
        && hex(version, 2)
        && *version != "ff"
        && hex(trace, 32)
        && !zeros(trace)
        && hex(span, 16)
        && !zeros(span)
        && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_carried() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        assert!(is_traceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be"));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, good.parse().unwrap());
        assert_eq!(parent(&headers).as_deref(), Some(good));
        headers.append(TRACEPARENT, good.parse().unwrap());
        assert_eq!(parent(&headers), None, "which of two is meant is not known");
    }
}
