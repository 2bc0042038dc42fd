//! Errors as gRPC statuses, with the stable code in the metadata.

use http::{HeaderMap, HeaderValue};
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

/// Makes an error that the gRPC library answered a call with one of ours. `path` is that of the call.
pub(crate) fn complete_error(headers: &mut HeaderMap, path: &str) {
    let Some(made) = Status::from_header_map(headers) else { return };
    // Nothing else of it has no message.
    let unknown = made.code() == tonic::Code::Unimplemented && made.message().is_empty();
    if let Some(error) = if unknown { Some(no_method(path)) } else { library_error(&made) } {
        // A status of ours is made of what a header takes.
        let _ = status(&error).add_header(headers);
    }
}

/// What reading a request stream failed with.
pub(super) fn stream_error(made: Status) -> Status {
    library_error(&made).map_or(made, |error| status(&error))
}

/// What an error means that the gRPC library made; `None` when we made it, or when nobody is left to be told.
fn library_error(made: &Status) -> Option<Error> {
    if made.metadata().contains_key(ERROR_CODE_METADATA) {
        return None;
    }
    match made.code() {
        // A message over the limit, before or after decompression.
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            let what = "the message is larger than `limits.body_bytes` of the hub allows; send smaller batches";
            Some(Error::new(Code::BodyTooLarge, what))
        }
        // A compression that is not known here.
        tonic::Code::Unimplemented => Some(Error::new(Code::Unsupported, made.message())),
        // The library takes the blame for what it cannot read.
        tonic::Code::Internal | tonic::Code::InvalidArgument => {
            let what = format!("the request cannot be read as its protobuf message: {}", made.message());
            Some(Error::new(Code::InvalidArgument, what))
        }
        _ => None,
    }
}

/// The error of a call of a method that is not here.
pub(crate) fn no_method(path: &str) -> Error {
    let shown: String = path.chars().take(120).collect();
    Error::new(Code::RouteNotFound, format!("there is no gRPC method {shown}; ask the reflection service"))
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
