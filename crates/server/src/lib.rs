//! The server: HTTP, gRPC, configuration and metrics over the hub.
//!
//! This is the composition root: the one place that knows which backend runs. Start at [`serve`], or at [`Server`] to
//! run a hub within another program.

mod app;
mod backend;
mod catalog;
mod codes;
mod config;
mod grpc;
mod http;
mod logging;
mod metrics;
mod publishing;
mod serve;
mod trace;

pub use backend::open_backend;
pub use config::{
    BackendUrl, Config, ConfigSources, EmbeddedConfig, HttpConfig, LogConfig, LogFormat, RedisConfig, Secret,
    SubscriptionsConfig, TopicsConfig,
};
pub use logging::init_logging;
pub use serve::{Ready, Server, serve};
pub use synapse_hub_core::{Code, Durability, Error, Result, backend::Backend};

/// The version of this hub.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
