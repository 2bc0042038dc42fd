//! The numbers by which a hub recognises a batch that is sent again.
//!
//! A hub remembers a producer's latest batches. A number that fell behind them could no longer be told from a new batch,
//! so numbers are given out only while the oldest that is still under way is near.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many of a producer's batches a hub remembers.
pub(crate) const WINDOW_BATCHES: u64 = 64;

/// The numbers of one producer for one topic.
#[derive(Default)]
pub(crate) struct Sequence {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    latest: u64,
    under_way: BTreeSet<u64>,
}

/// A number that is in use.
pub(crate) struct Number {
    pub(crate) value: u64,
    of: Arc<Sequence>,
}

impl Sequence {
    /// The next number. Waits until the oldest in use is near enough.
    pub(crate) async fn take(self: &Arc<Self>) -> Number {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // Before looking, so that a number that is freed in between is not missed.
            freed.as_mut().enable();
            if let Some(value) = self.state.lock().next() {
                return Number { value, of: self.clone() };
            }
            freed.await;
        }
    }
}

impl State {
    fn next(&mut self) -> Option<u64> {
        let next = self.latest + 1;
        let near = self.under_way.first().is_none_or(|oldest| next - oldest < WINDOW_BATCHES);
        near.then(|| {
            self.latest = next;
            self.under_way.insert(next);
            next
        })
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        self.of.state.lock().under_way.remove(&self.value);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_batch_under_way_is_never_left_out_of_what_the_hub_remembers() {
        let sequence = Arc::new(Sequence::default());
        let oldest = sequence.take().await;
        assert_eq!(oldest.value, 1);
        for expected in 2..=WINDOW_BATCHES {
            assert_eq!(sequence.take().await.value, expected);
        }
        assert!(sequence.take().now_or_never().is_none(), "number 1 would be forgotten");
        let waiting = tokio::spawn({
            let sequence = sequence.clone();
            async move { sequence.take().await.value }
        });
        tokio::task::yield_now().await;
        drop(oldest);
        assert_eq!(waiting.await.unwrap(), WINDOW_BATCHES + 1);
    }
}
