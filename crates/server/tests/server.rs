//! The promises of the network surfaces, kept over real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

#[path = "server/support.rs"]
mod support;

#[path = "server/embedded.rs"]
mod embedded;
#[path = "server/errors.rs"]
mod errors;
#[path = "server/grpc_publish.rs"]
mod grpc_publish;
#[path = "server/grpc_subscribe.rs"]
mod grpc_subscribe;
#[path = "server/network.rs"]
mod network;
#[path = "server/pages.rs"]
mod pages;
#[path = "server/publish.rs"]
mod publish;
#[path = "server/redis.rs"]
mod redis;
#[path = "server/shutdown.rs"]
mod shutdown;
#[path = "server/status.rs"]
mod status;
#[path = "server/streams.rs"]
mod streams;
#[path = "server/topics.rs"]
mod topics;
