//! The suite that every backend runs, in both layouts.

use std::sync::Arc;

use async_trait::async_trait;
use synapse_hub_core::{Layout, Result, TopicSettings, backend::Backend, conformance::Harness};
use synapse_hub_redis::{RedisBackend, RedisOptions};

use crate::server::Database;

async fn open(database: &Database) -> Result<Arc<dyn Backend>> {
    let options = RedisOptions { append_bytes_max: 1 << 20, event_bytes_max: 4 << 20, ..crate::support::options() };
    Ok(Arc::new(RedisBackend::connect(&database.url(), options).await?))
}

macro_rules! harness {
    ($name:ident, $layout:expr) => {
        struct $name(Database);

        #[async_trait]
        impl Harness for $name {
            async fn start() -> Self {
                Self(Database::new())
            }

            async fn open(&self) -> Result<Arc<dyn Backend>> {
                open(&self.0).await
            }

            /// What dies with a hub is its thread for Redis, with everything that is under way.
            async fn crash(&self, backend: Arc<dyn Backend>) {
                drop(backend);
            }

            fn settings(&self) -> TopicSettings {
                TopicSettings { layout: $layout, ..TopicSettings::default() }
            }
        }
    };
}

mod flat {
    use super::*;
    harness!(Flat, Layout::Flat);
    synapse_hub_core::conformance_suite!(Flat);
}

mod packed {
    use super::*;
    harness!(Packed, Layout::Packed);
    synapse_hub_core::conformance_suite!(Packed);
}
