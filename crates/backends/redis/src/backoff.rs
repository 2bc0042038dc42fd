//! Pauses between attempts: they grow, and are random, so that many hubs do not come at once.

use std::time::Duration;

use rand::Rng as _;

const MIN: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(2);

/// How long the next pause is, at most.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(MIN)
    }

    /// Waits, and makes the next pause longer.
    pub(crate) fn pause(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let pause = self.0.mul_f64(rand::rng().random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(MAX);
        tokio::time::sleep(pause)
    }
}
