//! Waiting for a backend that is away for a while.

use std::time::Duration;

use rand::Rng as _;
use synapse_hub_core::{Code, Result};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Does something until it succeeds, or fails in a way that no retry can heal.
///
/// The pauses in between grow, and are random, so that not all who wait come back at once.
pub(crate) async fn until_healed<T, F>(mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pause = PAUSE_MIN;
    loop {
        match attempt().await {
            Err(error) if error.retryable() && error.code() != Code::ShuttingDown => {
                let share = rand::rng().random_range(0.5..1.0);
                tokio::time::sleep(pause.mul_f64(share)).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            outcome => return outcome,
        }
    }
}
