//! The Redis backend: event logs as Redis Streams
