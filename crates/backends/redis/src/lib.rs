//! The Redis backend: event logs as Redis Streams
pub mod entry;
