//! The embedded backend keeps all promises of a backend.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use synapse_hub_core::{Result, backend::Backend, conformance::Harness};
use synapse_hub_embedded::{Embedded, EmbeddedOptions};

/// A folder. A hub that dies keeps its own, and the next goes on with a copy of the files as they were at that moment:
/// what the operating system had is there, and what was only in the memory of the process is not.
struct Folder {
    root: tempfile::TempDir,
    generation: AtomicUsize,
}

impl Folder {
    fn current(&self) -> PathBuf {
        self.root.path().join(self.generation.load(Ordering::SeqCst).to_string())
    }
}

#[async_trait]
impl Harness for Folder {
    async fn start() -> Self {
        Self { root: tempfile::tempdir().unwrap(), generation: AtomicUsize::new(0) }
    }

    async fn open(&self) -> Result<Arc<dyn Backend>> {
        let options =
            EmbeddedOptions { append_bytes_max: 1 << 20, free_bytes_min: 1 << 20, ..EmbeddedOptions::default() };
        Ok(Arc::new(Embedded::open(&self.current(), options)?))
    }

    async fn crash(&self, backend: Arc<dyn Backend>) {
        let dead = self.current();
        self.generation.fetch_add(1, Ordering::SeqCst);
        copy(&dead, &self.current());
        backend.shutdown(Duration::from_secs(30)).await;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

synapse_hub_core::conformance_suite!(Folder);
