//! What a call to a hub can fail with.

use std::time::Duration;

use synapse_hub_proto::{ERROR_CODE_METADATA, RETRY_AFTER_METADATA, v1};

/// A failed call: the hub's stable code and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Error {
    /// A stable code such as `topic_not_found`. The client's own are `unreachable` (no hub answered), `timeout`,
    /// `history_gap` and `closed`.
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

    pub(crate) fn timeout(after: Duration) -> Self {
        let message = format!("the hub did not answer within {after:?}; whether it acted is not known");
        Self { retryable: true, ..Self::new("timeout", message) }
    }

    pub(crate) fn closed() -> Self {
        Self::new("closed", "the publisher has stopped, because its runtime ended")
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

    pub(crate) fn gap(gap: &v1::Gap) -> Self {
        let place = |position: &str, none: &str| {
            if position.is_empty() { none.to_owned() } else { position.to_owned() }
        };
        let lost = gap.lost.map_or_else(|| "events".to_owned(), |lost| format!("{lost} events"));
        let (after, earliest) = (place(&gap.after, "the start"), place(&gap.earliest, "yet to come"));
        let message = format!(
            "{lost} of {}/{} after {after} are gone ({}); the earliest is {earliest}. Reading on continues there",
            gap.topic, gap.partition, gap.reason
        );
        Self { retryable: true, ..Self::new("history_gap", message) }
    }

    /// Whether no hub answered at all.
    pub fn is_unreachable(&self) -> bool {
        self.code == "unreachable"
    }

    /// Whether this tells that history is missing, after which a subscription goes on.
    pub fn is_gap(&self) -> bool {
        self.code == "history_gap"
    }
}

/// An error with all that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Libraries like to say what their cause says.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code as Grpc;
        let text = |name: &str| status.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let Some(code) = text(ERROR_CODE_METADATA) else {
            // No hub said this: the connection or something in between did.
            let message = std::error::Error::source(&status)
                .map_or_else(|| status.message().to_owned(), |cause| format!("{}: {}", status.message(), chain(cause)));
            let broken = std::error::Error::source(&status).is_some();
            return match status.code() {
                Grpc::Unavailable | Grpc::Unknown | Grpc::Cancelled => Self::unreachable(message),
                Grpc::Internal if broken => Self::unreachable(message),
                Grpc::DeadlineExceeded => Self { retryable: true, ..Self::new("timeout", message) },
                Grpc::Unimplemented => {
                    let what = format!("what answers there is no hub of this version ({message})");
                    Self::new("unimplemented", what)
                }
                code => Self::new(&format!("{code:?}").to_lowercase(), message),
            };
        };
        let retry_after = text(RETRY_AFTER_METADATA).and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        let retryable = retry_after.is_some()
            || matches!(
                status.code(),
                Grpc::Unavailable | Grpc::ResourceExhausted | Grpc::Aborted | Grpc::DeadlineExceeded
            ) && code != "body_too_large";
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

#[cfg(test)]
mod tests {
    use tonic::{Code, Status, metadata::MetadataMap};

    use super::*;

    fn said(code: Code, entries: &[(&'static str, &str)]) -> Error {
        let mut metadata = MetadataMap::new();
        entries.iter().for_each(|(name, value)| drop(metadata.insert(*name, value.parse().unwrap())));
        Status::with_metadata(code, "why", metadata).into()
    }

    #[test]
    fn what_the_hub_says_keeps_its_code_and_what_the_network_says_is_unreachable() {
        for (code, entries, expected, retryable) in [
            (Code::NotFound, &[(ERROR_CODE_METADATA, "topic_not_found")][..], "topic_not_found", false),
            (Code::Unavailable, &[(ERROR_CODE_METADATA, "backend_unavailable")], "backend_unavailable", true),
            (Code::ResourceExhausted, &[(ERROR_CODE_METADATA, "body_too_large")], "body_too_large", false),
            (Code::Unavailable, &[], "unreachable", true),
            (Code::Unknown, &[], "unreachable", true),
            (Code::Internal, &[], "internal", false),
            (Code::DeadlineExceeded, &[], "timeout", true),
            (Code::Unimplemented, &[], "unimplemented", false),
        ] {
            let error = said(code, entries);
            assert_eq!((error.code.as_str(), error.retryable), (expected, retryable), "{code:?}");
        }
        let error = said(Code::Unavailable, &[(ERROR_CODE_METADATA, "overloaded"), (RETRY_AFTER_METADATA, "250")]);
        assert_eq!(error.retry_after, Some(Duration::from_millis(250)));
    }

    #[test]
    fn one_refusal_has_its_own_code_and_several_share_one() {
        let refusal = |index| v1::Refusal {
            index,
            code: "invalid_event".into(),
            field: "event".into(),
            message: "no type".into(),
        };
        assert_eq!(Error::refused(vec![refusal(0)]).code, "invalid_event");
        let several = Error::refused(vec![refusal(0), refusal(1)]);
        assert_eq!(several.to_string(), "2 events were refused; the first: no type [batch_refused]");
    }
}
