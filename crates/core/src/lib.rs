//! What every part of Synapse agrees on: events, their codecs, positions, and the contract that backends keep.
//!
//! This crate does no I/O. The traits are in [`backend`] and [`meta`]; the suite that every backend runs is in
//! `conformance` (feature `conformance`).

pub mod backend;
pub mod batch;
pub mod cloudevents;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cursor;
mod error;
mod event;
pub mod fields;
pub mod flat;
pub mod json;
pub mod meta;
mod point;
mod position;
mod time;
mod topic;

pub use cursor::{Cursor, PartitionId};
pub use error::{Code, Error, Result};
pub use event::{Attributes, Event};
pub use point::Point;
pub use position::Position;
pub use time::Timestamp;
pub use topic::{Durability, Layout, TOPIC_NAME_BYTES_MAX, TopicName, TopicPattern, TopicSettings};
