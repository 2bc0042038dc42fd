//! The hub: topics, publishing, tailing, subscriptions and replay over any backend.
//!
//! Start at [`Hub`]. It sees backends only through the traits of `synapse-hub-core`.

mod catalog;
mod filter;
mod hub;
mod limits;
mod metrics;
mod publish;
mod resolve;
mod retention;
mod retry;
mod subscription;
mod tail;
mod topics;

pub use filter::Filters;
pub use hub::{Hub, HubHealth, HubOptions};
pub use limits::Limits;
pub use metrics::{Metrics, TopicMetrics};
pub use publish::{Payload, Pending, Placed, Publication, Published, Refusal};
pub use subscription::{Delivery, EndReason, Item, SubscribeRequest, Subscription};
pub use tail::SharedBatch;
pub use topics::{PartitionDescription, TopicDescription, Topics, TrimRequest};
