//! Which backend runs: the one place that knows.

use std::sync::Arc;

use synapse_hub_core::{Code, Error, Result, backend::Backend};

use crate::Config;

/// Opens the backend that the configuration names.
///
/// # Errors
/// What the backend says: `storage_locked` when another hub has the folder, `backend_unavailable`, …
pub async fn open_backend(config: &Config) -> Result<Arc<dyn Backend>> {
    if let Some(path) = config.backend.embedded_path() {
        let (path, options) = (path.to_owned(), config.embedded_options());
        let opened = tokio::task::spawn_blocking(move || synapse_hub_embedded::Embedded::open(&path, options)).await;
        let opened = opened.map_err(|error| Error::new(Code::Internal, format!("opening the log failed: {error}")))?;
        return Ok(Arc::new(opened?));
    }
    Err(Error::new(Code::Unsupported, "not wired"))
}
