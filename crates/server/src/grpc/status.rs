//! Errors as gRPC statuses, with the stable code in the metadata.

use http::{HeaderMap, HeaderName, HeaderValue};
use synapse_hub_core::{Code, Error};
use synapse_hub_hub::Refusal;
use synapse_hub_proto::{ERROR_CODE_METADATA, RETRY_AFTER_METADATA, v1};
use tonic::{Status, metadata::MetadataMap};

use crate::{catalog, codes};

/// The longest message of a status, in characters: it travels in a header.
const MESSAGE_CHARS_MAX: usize = 1000;

/// The status of a failed call.
pub(crate) fn status(error: &Error) -> Status {
    let mut headers = HeaderMap::new();
    headers.insert(ERROR_CODE_METADATA, HeaderValue::from_static(error.code().as_str()));
    if let Some(wait) = codes::retry_after(error) {
        headers.insert(RETRY_AFTER_METADATA, catalog::millis(wait).into());
    }
    Status::with_metadata(codes::grpc(error.code()), message(error), MetadataMap::from_headers(headers))
}

/// A failure of a whole batch within a stream.
pub(crate) fn problem(error: &Error) -> v1::Problem {
    v1::Problem {
        code: error.code().as_str().into(),
        message: message(error),
        retryable: error.retryable(),
        retry_after_ms: codes::retry_after(error).map_or(0, catalog::millis),
    }
}

/// Why one event was refused.
pub(crate) fn refusal(refusal: &Refusal) -> v1::Refusal {
    v1::Refusal {
        index: u32::try_from(refusal.index).unwrap_or(u32::MAX),
        code: refusal.error.code().as_str().into(),
        field: refusal.error.field_path().unwrap_or_default().into(),
        message: refusal.error.message().into(),
    }
}

/// What was wrong and where, without the code, which has a place of its own.
fn message(error: &Error) -> String {
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" [{}]", error.code())).unwrap_or(&text);
    text.chars().take(MESSAGE_CHARS_MAX).collect()
}

/// Gives errors that the gRPC library made itself their code.
pub(crate) fn complete_error(headers: &mut HeaderMap) {
    let Some(status) = headers.get("grpc-status").map(|status| tonic::Code::from_bytes(status.as_bytes())) else {
        return;
    };
    let code = match status {
        tonic::Code::Ok => return,
        // A message over the limit, before or after decompression.
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => Code::BodyTooLarge,
        tonic::Code::Unimplemented => Code::RouteNotFound,
        tonic::Code::Internal | tonic::Code::InvalidArgument => Code::InvalidArgument,
        _ => return,
    };
    let name = HeaderName::from_static(ERROR_CODE_METADATA);
    headers.entry(name).or_insert(HeaderValue::from_static(code.as_str()));
}

/// What reading a request stream failed with.
pub(crate) fn stream_error(status: Status) -> Status {
    let mut headers = status.metadata().clone().into_headers();
    if let Ok(code) = HeaderValue::from_str(&i32::from(status.code()).to_string()) {
        headers.insert("grpc-status", code);
    }
    complete_error(&mut headers);
    headers.remove("grpc-status");
    Status::with_metadata(status.code(), status.message(), MetadataMap::from_headers(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_where_and_carries_the_code() {
        let error = Error::new(Code::BackendUnavailable, "gone").topic("t").index(3).field("f");
        let status = status(&error);
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert_eq!(status.message(), "topic t: event 3: field f: gone");
        assert_eq!(status.metadata().get(ERROR_CODE_METADATA).unwrap(), "backend_unavailable");
        assert_eq!(status.metadata().get(RETRY_AFTER_METADATA).unwrap(), "1000");
        let final_ = super::status(&Error::new(Code::InvalidTopic, "x"));
        assert!(final_.metadata().get(RETRY_AFTER_METADATA).is_none());
    }
}
