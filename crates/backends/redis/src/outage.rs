//! Whether Redis can be reached, told once however many connections notice it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use synapse_hub_core::Error;

/// Counts the connections that are lost, and writes one warning when the first is and one note when all are back.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    address: String,
    state: Mutex<State>,
    reconnects: AtomicU64,
    errors: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    down: usize,
    /// The last reason that was written to the log.
    told: Option<synapse_hub_core::Code>,
    latest: Option<Error>,
}

impl Outage {
    pub(crate) fn new(address: String) -> Self {
        Self { address, ..Self::default() }
    }

    /// A connection was lost.
    pub(crate) fn down(&self, error: &Error) {
        self.failure();
        let mut state = self.state.lock();
        state.down += 1;
        state.latest = Some(error.clone());
        if state.down == 1 {
            state.told = Some(error.code());
            tracing::warn!(address = self.address, %error, "lost the connection to Redis; trying to connect again");
        }
    }

    /// An attempt to connect failed. That is only told when the reason is another one.
    pub(crate) fn failed(&self, error: &Error) {
        self.failure();
        let mut state = self.state.lock();
        state.latest = Some(error.clone());
        if !error.retryable() && state.told != Some(error.code()) {
            state.told = Some(error.code());
            tracing::error!(address = self.address, %error, "cannot connect to Redis again; trying on");
        }
    }

    /// A connection was made again.
    pub(crate) fn up(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.down = state.down.saturating_sub(1);
        if state.down == 0 {
            state.told = None;
            state.latest = None;
            tracing::info!(address = self.address, "connected to Redis again");
        }
    }

    /// An operation failed.
    pub(crate) fn failure(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Why connections are down, when some are.
    pub(crate) fn latest(&self) -> Option<Error> {
        self.state.lock().latest.clone()
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}
