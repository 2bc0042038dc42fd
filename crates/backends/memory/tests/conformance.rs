//! The memory backend keeps all promises of a backend.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use synapse_hub_core::{Result, backend::Backend, conformance::Harness};
use synapse_hub_memory::Memory;

struct InMemory;

#[async_trait]
impl Harness for InMemory {
    async fn start() -> Self {
        Self
    }

    async fn open(&self) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(Memory::new()))
    }

    async fn second_hub(&self) -> Option<Result<Arc<dyn Backend>>> {
        // There is no way into the memory of a process.
        None
    }

    async fn crash(&self, backend: Arc<dyn Backend>) {
        backend.shutdown(Duration::ZERO).await;
    }
}

synapse_hub_core::conformance_suite!(InMemory);
