#![doc = include_str!("../README.md")]

mod client;
mod connection;
mod error;
mod publisher;
mod retry;
mod sequence;
mod subscription;
mod topics;

pub use client::{Client, ClientOptions, DEFAULT_URL, PublishOptions, Published, event};
pub use error::Error;
pub use publisher::{FailedEvent, Publisher, PublisherOptions, PublisherReport};
pub use subscription::{Batch, EndReason, Events, Gap, Item, Message, Received, SubscribeOptions, Subscription};
pub use synapse_hub_proto::v1::{
    Attribute, Durability, Event, Format, InfoResponse, Layout, PartitionDescription, Refusal, TopicDescription,
    TopicSettings,
};
pub use topics::Topics;

/// The result of calls to a hub.
pub type Result<T, E = Error> = std::result::Result<T, E>;
