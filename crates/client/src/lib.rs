//! The Rust SDK of Synapse.
//!
//! ```no_run
//! # async fn example() -> Result<(), synapse_hub_client::Error> {
//! use synapse_hub_client::{Client, SubscribeOptions, event};
//!
//! let client = Client::from_env()?; // SYNAPSE_URL, or http://127.0.0.1:8002
//! let ready = event("model-ready", &serde_json::json!({"model_name": "classifier", "version": "v2.0"}))?;
//! client.publish("model-events", vec![ready]).await?;
//!
//! let mut options = SubscribeOptions::new(["model-events"]);
//! options.filters.push(r#"{"model_name": "classifier"}"#.into());
//! options.replay_from = "2025-01-01".into();
//! let mut subscription = client.subscribe(options).await?;
//! while let Some(received) = subscription.next_event().await? {
//!     println!("{} {}", received.position, String::from_utf8_lossy(&received.event.data));
//! }
//! # Ok(()) }
//! ```

mod client;
mod error;
mod publisher;
mod retry;
mod subscription;

pub use client::{Client, ClientOptions, DEFAULT_URL, PublishOptions, Published, Topics, event, hub_address};
pub use error::Error;
pub use publisher::{FailedEvent, Publisher, PublisherOptions, PublisherReport};
pub use subscription::{Batch, EndReason, Gap, Item, Received, SubscribeOptions, Subscription};
pub use synapse_hub_proto::v1::{
    Durability, Event, Format, InfoResponse, Layout, PartitionDescription, Refusal, TopicDescription, TopicSettings,
};

/// The result of calls to a hub.
pub type Result<T, E = Error> = std::result::Result<T, E>;
