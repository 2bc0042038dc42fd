//! What handlers take from the path.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use synapse_hub_core::{Code, TopicName, TopicPattern};

use super::problem::Failure;

/// The topic in the path.
pub(crate) struct Topic(pub(crate) TopicName);

/// The topics in the path: names and patterns, with commas between them.
pub(crate) struct Topics(pub(crate) Vec<TopicPattern>);

impl<S: Send + Sync> FromRequestParts<S> for Topic {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        Ok(Self(segment(parts, state).await?.parse()?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Topics {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let text = segment(parts, state).await?;
        Ok(Self(text.split(',').map(str::parse).collect::<Result<_, _>>()?))
    }
}

async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Failure> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(text)| text)
        .map_err(|_| Failure::new(Code::InvalidTopic, "the topic in the path is not UTF-8 when percent-decoded"))
}
