//! What each error code is in HTTP and in gRPC: the one table.

use std::time::Duration;

use http::StatusCode;
use synapse_hub_core::{Code, Error};

/// How long a client waits before it tries again when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The HTTP status of a code.
pub(crate) fn http(code: Code) -> StatusCode {
    statuses(code).0
}

/// The gRPC status of a code.
pub(crate) fn grpc(code: Code) -> tonic::Code {
    statuses(code).1
}

/// How long to wait before a retry; `None` when a retry cannot help.
pub(crate) fn retry_after(error: &Error) -> Option<Duration> {
    error.retryable().then(|| error.retry_wait().unwrap_or(RETRY_AFTER))
}

fn statuses(code: Code) -> (StatusCode, tonic::Code) {
    use tonic::Code as Grpc;
    match code {
        Code::InvalidJson
        | Code::JsonTooDeep
        | Code::EmptyBatch
        | Code::InvalidTopic
        | Code::InvalidFilter
        | Code::TooManyFilters
        | Code::InvalidReplayPoint
        | Code::InvalidCursor
        | Code::InvalidArgument => (StatusCode::BAD_REQUEST, Grpc::InvalidArgument),
        Code::InvalidEvent | Code::InvalidTimestamp | Code::BatchRefused | Code::InvalidTopicSettings => {
            (StatusCode::UNPROCESSABLE_ENTITY, Grpc::InvalidArgument)
        }
        Code::EventTooLarge | Code::BatchTooLarge | Code::BodyTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, Grpc::InvalidArgument)
        }
        Code::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Grpc::InvalidArgument),
        Code::RouteNotFound => (StatusCode::NOT_FOUND, Grpc::Unimplemented),
        Code::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, Grpc::Unimplemented),
        Code::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, Grpc::Unavailable),
        Code::TopicNotFound => (StatusCode::NOT_FOUND, Grpc::NotFound),
        Code::TopicExists => (StatusCode::CONFLICT, Grpc::AlreadyExists),
        Code::ProducerSequenceTooOld => (StatusCode::CONFLICT, Grpc::FailedPrecondition),
        Code::Conflict => (StatusCode::CONFLICT, Grpc::Aborted),
        Code::BackendWrongType => (StatusCode::CONFLICT, Grpc::FailedPrecondition),
        Code::TooManySubscriptions | Code::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, Grpc::ResourceExhausted),
        Code::BackendUnavailable
        | Code::BackendReadonly
        | Code::BackendLoading
        | Code::BackendOutOfMemory
        | Code::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, Grpc::Unavailable),
        Code::BackendTimeout => (StatusCode::GATEWAY_TIMEOUT, Grpc::DeadlineExceeded),
        Code::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, Grpc::ResourceExhausted),
        Code::BackendDenied | Code::BackendError => (StatusCode::BAD_GATEWAY, Grpc::Internal),
        Code::StorageCorrupt => (StatusCode::INTERNAL_SERVER_ERROR, Grpc::DataLoss),
        Code::Unsupported => (StatusCode::NOT_IMPLEMENTED, Grpc::Unimplemented),
        Code::StorageLocked | Code::InvalidConfig | Code::Internal => {
            (StatusCode::INTERNAL_SERVER_ERROR, Grpc::Internal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_retry_can_heal_looks_so_in_http_and_grpc() {
        for &code in Code::ALL {
            let error = Error::new(code, "x");
            assert_eq!(retry_after(&error).is_some(), code.retryable(), "{code}");
            let may_heal = matches!(http(code).as_u16(), 408 | 503 | 504 | 507);
            assert_eq!(may_heal, code.retryable(), "{code}");
            assert_ne!(grpc(code), tonic::Code::Ok);
        }
    }
}
