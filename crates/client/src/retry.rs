//! Waiting: for answers, and between attempts.

use std::time::Duration;

use rand::Rng as _;

use crate::{Error, Result};

const FIRST: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(5);

/// The waits of one operation that is tried again: exponential, with jitter, up to a cap.
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

/// The answer to a call, when it comes in time.
pub(crate) async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Error::timeout(timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_cap_and_respect_what_the_hub_says() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next(None)).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2, "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait <= CAP && *wait >= CAP / 2), "{waits:?}");
        assert_eq!(backoff.next(Some(Duration::from_secs(60))), Duration::from_secs(60));
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }
}
