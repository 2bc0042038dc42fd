//! Waiting between attempts: exponential, with jitter, up to a cap.

use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(5);

/// The waits of one operation that is tried again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// How long to wait before the next attempt, and at least `at_least`.
    pub(crate) fn next(&mut self, at_least: Option<Duration>) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.attempts.min(10)).min(CAP);
        self.attempts += 1;
        wait.mul_f64(rand::rng().random_range(0.5..1.0)).max(at_least.unwrap_or_default())
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}
