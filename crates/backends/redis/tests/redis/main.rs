//! The Redis backend against real servers.

// Tests fail by panicking, also in what they share.
#![allow(clippy::unwrap_used)]

mod conformance;
mod neighbours;
mod outages;
mod refusals;
mod retries;
mod server;
mod support;
mod tails;
mod tls;
