//! The thread that all traffic with Redis runs on.
//!
//! A runtime of its own with one thread costs half the processor time of doing the same on a runtime with several.

use std::{pin::Pin, thread, time::Duration};

use parking_lot::Mutex;
use synapse_hub_core::{Code, Error, Result};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::errors;

/// Work that goes on until the backend is stopped.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The thread, and what runs on it. Dropping it ends everything.
pub(crate) struct Io {
    handle: Handle,
    /// Cancelled to stop once everything that was accepted is stored.
    pub(crate) appends: CancellationToken,
    /// Cancelled to stop everything else.
    pub(crate) others: CancellationToken,
    thread_stop: CancellationToken,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    appending: Mutex<Option<JoinHandle<()>>>,
}

impl Io {
    pub(crate) fn start() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(Code::Internal, "the thread for Redis could not be started").caused_by(error)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let thread_stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let stopped = thread_stop.clone();
        thread::Builder::new()
            .name("synapse-redis".to_owned())
            .spawn(move || {
                runtime.block_on(stopped.cancelled());
                // A name that is being looked up must not hold anybody up.
                runtime.shutdown_background();
                _ = end.send(());
            })
            .map_err(failed)?;
        Ok(Self {
            handle,
            appends: CancellationToken::new(),
            others: CancellationToken::new(),
            thread_stop,
            ended: Mutex::new(Some(ended)),
            appending: Mutex::new(None),
        })
    }

    /// Runs something on the thread and waits for it.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        self.handle.spawn(work).await.map_err(|_| errors::shutting_down())
    }

    pub(crate) fn keep(&self, task: Task) {
        self.handle.spawn(task);
    }

    /// Keeps the task that appends, whose end is waited for.
    pub(crate) fn keep_appending(&self, task: impl Future<Output = ()> + Send + 'static) {
        *self.appending.lock() = Some(self.handle.spawn(task));
    }

    /// Ends reads, stores what was accepted, and ends the thread, all before the deadline.
    pub(crate) async fn stop(&self, deadline: Duration) {
        let deadline = Instant::now() + deadline;
        self.others.cancel();
        self.appends.cancel();
        let appending = self.appending.lock().take();
        if let Some(appending) = appending {
            _ = tokio::time::timeout_at(deadline, appending).await;
        }
        self.thread_stop.cancel();
        let ended = self.ended.lock().take();
        if let Some(ended) = ended {
            _ = tokio::time::timeout_at(deadline, ended).await;
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.thread_stop.cancel();
    }
}
