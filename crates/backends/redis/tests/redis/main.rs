//! The Redis backend against real servers.

mod conformance;
mod neighbours;
mod outages;
mod refusals;
mod retries;
mod server;
mod support;
mod tails;
mod tls;
