//! Errors as `application/problem+json` (RFC 9457).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use synapse_hub_core::{Code, Error};
use synapse_hub_hub::Refusal;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use crate::codes;

/// The media type of problems.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// The result of a handler.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// A request that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) refused: Vec<Refusal>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Error::new(code, message).into()
    }

    /// A parameter that cannot be.
    pub(crate) fn argument(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error::new(Code::InvalidArgument, message).field(field).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, refused: Vec::new() }
    }
}

impl IntoResponse for Failure {
    /// Without its body: that is written where the request's id is known, by [`render`].
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = codes::http(self.error.code());
        if let Some(wait) = codes::retry_after(&self.error) {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of a failed request.
pub(crate) fn render(failure: Failure, request_id: &str, response: &mut Response) {
    let problem = Problem::new(failure, response.status(), request_id);
    // A structure of texts and numbers can always be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    *response.body_mut() = Body::from(body);
}

/// What went wrong, where, and what to do (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Identifies the kind of problem: `urn:synapse:problem:` and the code.
    r#type: String,
    /// The kind of problem, in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was wrong with this request, and what to do.
    detail: String,
    /// The kind of problem, stable: programs go by it.
    #[schema(value_type = ProblemCode)]
    code: &'static str,
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// Which event of the request, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// The place within the event, or the parameter, such as `metrics.loss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// The same request may succeed later.
    retryable: bool,
    /// Wait at least so long before a retry.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// Each event that was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<RefusedEvent>,
    /// The id of the request, as in the header `x-request-id` and in the hub's log.
    request_id: String,
}

/// An event that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedEvent {
    /// Which event of the request, counted from 0.
    index: usize,
    /// The kind of problem.
    #[schema(value_type = ProblemCode)]
    code: &'static str,
    /// The place within the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What was wrong, and what to do.
    detail: String,
}

impl Problem {
    fn new(failure: Failure, status: StatusCode, request_id: &str) -> Self {
        let Failure { error, refused } = failure;
        let wait = codes::retry_after(&error);
        Self {
            r#type: format!("urn:synapse:problem:{}", error.code()),
            title: title(error.code()),
            status: status.as_u16(),
            detail: error.message().to_owned(),
            code: error.code().as_str(),
            topic: error.topic_name().map(str::to_owned),
            index: error.event_index(),
            field: error.field_path().map(str::to_owned),
            retryable: error.retryable(),
            retry_after_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            refused: refused.into_iter().map(RefusedEvent::from).collect(),
            request_id: request_id.to_owned(),
        }
    }

    /// A problem in the middle of a stream, as JSON text.
    pub(crate) fn text(error: Error) -> String {
        let status = codes::http(error.code());
        let mut problem = serde_json::to_value(Self::new(error.into(), status, "")).unwrap_or_default();
        if let Some(problem) = problem.as_object_mut() {
            problem.shift_remove("request_id");
        }
        problem.to_string()
    }
}

impl From<Refusal> for RefusedEvent {
    fn from(refusal: Refusal) -> Self {
        let Refusal { index, error } = refusal;
        Self {
            index,
            code: error.code().as_str(),
            field: error.field_path().map(str::to_owned),
            detail: error.message().to_owned(),
        }
    }
}

/// `topic_not_found` as `Topic not found`.
fn title(code: Code) -> String {
    let mut title = code.as_str().replace('_', " ").replace("json", "JSON");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

/// The schema of a code: every code there is.
pub(crate) struct ProblemCode;

impl PartialSchema for ProblemCode {
    fn schema() -> RefOr<Schema> {
        let codes = Code::ALL.iter().map(|code| code.as_str());
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes)).into()
    }
}

impl ToSchema for ProblemCode {}
