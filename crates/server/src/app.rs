//! What every handler shares.

use std::sync::Arc;

use bytes::Bytes;
use synapse_hub_hub::Hub;

use crate::{Config, metrics::ServerMetrics};

/// What every handler shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) hub: Hub,
    pub(crate) config: Config,
    pub(crate) metrics: ServerMetrics,
    /// `/openapi.json`.
    pub(crate) openapi: Bytes,
}

impl App {
    pub(crate) fn new(hub: Hub, config: Config, metrics: ServerMetrics, openapi: Bytes) -> Self {
        Self(Arc::new(Inner { hub, config, metrics, openapi }))
    }
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
