//! Which backend runs: the one place that knows.

use std::sync::Arc;

use synapse_hub_core::{Code, Error, Result, backend::Backend};
use synapse_hub_embedded::Embedded;
use synapse_hub_memory::Memory;
use synapse_hub_redis::RedisBackend;

use crate::Config;

/// Opens the backend that the configuration names.
///
/// # Errors
/// What the backend says: `storage_locked` when another hub has the folder, `backend_unavailable`, …
pub async fn open_backend(config: &Config) -> Result<Arc<dyn Backend>> {
    if let Some(path) = config.backend.embedded_path() {
        let (path, options) = (path.to_owned(), config.embedded_options());
        let opened = tokio::task::spawn_blocking(move || Embedded::open(&path, options)).await;
        let opened = opened.map_err(|error| Error::new(Code::Internal, format!("opening the log failed: {error}")))?;
        return Ok(Arc::new(opened?));
    }
    if let Some(address) = config.backend.redis_url() {
        // Of several providers of cryptography in one program one has to be chosen; an earlier choice is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        return Ok(Arc::new(RedisBackend::connect(address, config.redis_options()).await?));
    }
    Ok(Arc::new(Memory::new()))
}
