//! The Redis backend against real servers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

mod conformance;
mod neighbours;
mod outages;
mod refusals;
mod retries;
mod server;
mod support;
mod tails;
mod tls;
