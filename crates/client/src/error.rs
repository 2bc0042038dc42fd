//! What a call to a hub can fail with.

use std::time::Duration;

use synapse_hub_proto::{ERROR_CODE_METADATA, RETRY_AFTER_METADATA, v1};

/// A failed call: the hub's stable code and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Error {
    /// A stable code such as `topic_not_found`; `unreachable` when no hub answered.
    pub code: String,
    /// What was wrong and what to do.
    pub message: String,
    /// The same call may succeed later.
    pub retryable: bool,
    /// How long to wait before, where the hub said so.
    pub retry_after: Option<Duration>,
    /// What was refused of a batch.
    pub refused: Vec<v1::Refusal>,
}

impl Error {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        let retryable = false;
        Self { code: code.into(), message: message.into(), retryable, retry_after: None, refused: Vec::new() }
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::new("unreachable", message) }
    }

    pub(crate) fn refused(refused: Vec<v1::Refusal>) -> Self {
        let message = match refused.as_slice() {
            [only] => only.message.clone(),
            [first, ..] => format!("{} events were refused; the first: {}", refused.len(), first.message),
            [] => "the batch was refused".into(),
        };
        let code = if let [only] = refused.as_slice() { only.code.clone() } else { "batch_refused".into() };
        Self { refused, ..Self::new(&code, message) }
    }

    /// Whether no hub answered at all.
    pub fn is_unreachable(&self) -> bool {
        self.code == "unreachable"
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let text = |name: &str| status.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let transport =
            matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled);
        let Some(code) = text(ERROR_CODE_METADATA) else {
            // No hub said this: the connection or something in between did. Each layer repeats what the one below says;
            // the lowest knows.
            let mut cause: &dyn std::error::Error = &status;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            let message = match cause.downcast_ref::<tonic::Status>() {
                Some(status) => status.message().to_owned(),
                None => cause.to_string(),
            };
            return match status.code() {
                _ if transport => Self::unreachable(message),
                tonic::Code::DeadlineExceeded => Self { retryable: true, ..Self::new("timeout", message) },
                code => Self::new(&format!("{code:?}").to_lowercase(), message),
            };
        };
        let retry_after = text(RETRY_AFTER_METADATA).and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        let retryable = retry_after.is_some()
            || matches!(
                status.code(),
                tonic::Code::Unavailable
                    | tonic::Code::ResourceExhausted
                    | tonic::Code::Aborted
                    | tonic::Code::DeadlineExceeded
            );
        Self { code, message: status.message().to_owned(), retryable, retry_after, refused: Vec::new() }
    }
}

impl From<v1::Problem> for Error {
    fn from(problem: v1::Problem) -> Self {
        let retry_after = (problem.retry_after_ms > 0).then(|| Duration::from_millis(problem.retry_after_ms));
        Self {
            code: problem.code,
            message: problem.message,
            retryable: problem.retryable,
            retry_after,
            refused: Vec::new(),
        }
    }
}
