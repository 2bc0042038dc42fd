//! The suite that every backend runs, whole.
//!
//! A backend implements [`Harness`] in its tests and writes `conformance_suite!(ItsHarness);`. Every promise of the
//! contract becomes a test of its own, which starts the backend for itself. What a backend lacks it says in its
//! [`Capabilities`](crate::backend::Capabilities), and the suite checks that this is neither too much nor too little.
//!
//! Nothing here measures time, but every wait is bounded, so that a hang is a failure.

// This is test code: it fails by panicking. A promise is described by its name.
#![allow(clippy::unwrap_used, missing_docs)]

pub mod append;
pub mod dedup;
pub mod lease;
pub mod lifecycle;
pub mod meta;
pub mod producer;
pub mod read;
mod support;
pub mod time;
pub mod topics;
pub mod trim;
pub mod watch;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Result, TopicSettings, backend::Backend};

/// The longest that anything in the suite may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The longest that a promise may take as a whole.
const PROMISE_TIME_MAX: Duration = Duration::from_secs(240);

/// What a backend's tests give to the suite: a place where its data is, and hubs on it.
///
/// Dropping it stops and removes whatever was started. It should give the backend little room for what is under way, a
/// megabyte or so, so that back-pressure is met with little data.
#[async_trait]
pub trait Harness: Send + Sync + Sized + 'static {
    /// Starts what the backend needs, such as a server, or makes a folder. Nothing is in it yet.
    async fn start() -> Self;

    /// Opens a hub's backend on the data. It is called again after a shutdown or a crash, with the same data.
    async fn open(&self) -> Result<Arc<dyn Backend>>;

    /// Opens the backend of a second hub while the first is open; `None` when the data cannot be reached from outside.
    async fn second_hub(&self) -> Option<Result<Arc<dyn Backend>>> {
        Some(self.open().await)
    }

    /// The hub dies: without a shutdown, and as suddenly as it can be done within a test. Calls that have not returned
    /// may have happened or not.
    async fn crash(&self, backend: Arc<dyn Backend>);

    /// The settings of the topics that are used, for backends that store them in several ways.
    fn settings(&self) -> TopicSettings {
        TopicSettings::default()
    }
}

/// Runs a promise, and fails when it hangs.
pub async fn keep(promise: impl Future<Output = ()>) {
    // Boxed, since the futures of a whole test are large.
    tokio::time::timeout(PROMISE_TIME_MAX, Box::pin(promise)).await.expect("the promise hangs");
}

/// A test for each promise, run with this harness.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:ty) => {
        $crate::conformance_suite! { @ $harness;
            append {
                events_stand_in_the_order_of_their_appends,
                positions_increase_and_survive_their_text_form,
                partitions_are_independent,
                the_events_of_a_batch_are_neighbours_among_concurrent_writers,
                each_writer_finds_its_events_in_its_own_order,
                commits_resolve_in_the_order_of_the_appends,
                a_dropped_commit_does_not_take_its_batch_back,
                a_writer_that_never_waits_is_held_back_and_loses_nothing,
                an_oversize_event_is_refused_with_its_whole_batch,
                every_durability_is_acknowledged,
                whatever_an_event_holds_comes_back,
                large_events_come_back,
                an_empty_batch_changes_nothing,
            }
            read {
                an_empty_log_has_empty_bounds,
                bounds_name_the_first_and_the_last_event,
                a_blocked_reader_gets_what_is_appended_later,
                many_readers_of_one_partition_all_get_everything,
                reading_goes_on_after_any_position,
                replay_runs_into_live_without_a_gap_or_a_duplicate,
                a_reader_that_starts_anew_all_the_time_misses_nothing,
                a_read_ends_with_its_until,
                an_until_ahead_of_the_log_is_waited_for,
                a_read_keeps_to_its_limits,
                dropping_a_reader_harms_nobody,
            }
            time {
                stored_times_never_go_back,
                find_leads_to_the_first_event_of_a_time,
                find_knows_the_edges,
                find_in_a_trimmed_log_leads_to_what_is_left_or_to_its_gap,
            }
            trim {
                trimming_up_to_a_position_removes_exactly_that,
                trimming_inside_a_batch_keeps_its_rest,
                trimming_to_a_number_keeps_the_latest,
                trimming_to_a_size_keeps_the_latest,
                approximate_trimming_keeps_at_least_as_much,
                trimming_nothing_changes_nothing,
                an_emptied_log_keeps_its_end_and_goes_on,
                trimming_under_a_reader_is_a_gap,
                trimming_ahead_of_a_slow_reader_is_a_gap,
                reading_from_a_position_that_was_trimmed_away_is_a_gap,
                reading_from_the_start_of_a_trimmed_log_says_what_is_gone,
                a_gap_is_told_once,
                trims_stay_across_a_reopening,
            }
            producer {
                a_retry_is_answered_with_its_first_positions_and_stores_nothing,
                a_retry_that_overtakes_its_first_try_stores_nothing,
                concurrent_retries_store_once,
                batches_that_come_out_of_order_are_stored,
                what_is_older_than_the_window_is_refused,
                producers_and_partitions_have_numbers_of_their_own,
                retries_are_recognised_after_a_shutdown,
                retries_are_recognised_after_a_crash,
                retries_are_recognised_across_hubs,
                a_retry_after_a_trim_stores_nothing,
                a_retry_of_a_partly_deduplicated_batch_has_the_same_positions,
            }
            dedup {
                within_the_window_an_event_is_stored_once,
                repeats_within_a_batch_are_stored_once,
                an_identity_is_source_and_id,
                after_the_window_it_is_stored_again,
                without_a_window_nothing_is_recognised,
                concurrent_repeats_are_stored_once,
                identities_are_known_after_a_reopening,
                identities_are_known_across_hubs,
            }
            topics {
                all_topics_are_listed_once_and_in_order,
                reading_what_nobody_wrote_leaves_nothing_behind,
                topics_do_not_mix,
                creating_a_topic_again_loses_nothing,
                a_deleted_topic_is_gone,
                deleting_ends_its_readers,
                deleting_what_is_not_there_is_no_error,
                a_topic_made_anew_starts_empty,
                a_deleted_topic_stays_away_after_a_reopening,
            }
            lifecycle {
                capabilities_are_plausible_and_the_backend_is_healthy,
                acknowledged_events_survive_a_shutdown,
                acknowledged_events_survive_what_is_claimed_and_no_more,
                positions_are_never_given_again,
                several_crashes_in_a_row_lose_nothing,
                a_crash_in_the_middle_of_a_load_loses_nothing_acknowledged,
                shutdown_stores_what_was_accepted,
                shutdown_ends_blocked_readers,
                nothing_is_accepted_after_a_shutdown,
                a_second_hub_shares_or_is_refused,
            }
            meta {
                a_document_comes_back_with_its_version,
                versions_grow_and_are_never_given_again,
                a_change_demands_what_it_says,
                one_of_many_creators_wins,
                no_change_is_lost_between_concurrent_writers,
                documents_are_listed_by_prefix_and_in_order,
                a_prefix_is_no_pattern,
                sizes_are_limited,
                documents_survive_what_is_claimed,
                hubs_share_their_documents,
            }
            lease {
                a_lease_has_one_holder,
                a_lease_that_is_not_renewed_is_free,
                one_of_many_takers_gets_a_lease,
                leases_are_no_documents,
                hubs_share_their_leases,
            }
            watch {
                a_watch_sees_every_document_and_each_change_in_order,
                a_watch_starts_after_its_revision,
                a_watch_sees_deletions,
                watches_see_only_their_prefix,
                a_watch_from_too_long_ago_sees_every_document,
                a_watch_goes_on_from_before_a_reopening,
                a_watch_sees_the_changes_of_other_hubs,
                the_revision_grows_with_every_change,
            }
        }
    };
    (@ $harness:ty; $($module:ident { $($promise:ident,)* })*) => {
        $(mod $module {
            use super::*;
            $(
                #[::tokio::test(flavor = "multi_thread")]
                async fn $promise() {
                    $crate::conformance::keep($crate::conformance::$module::$promise::<$harness>()).await;
                }
            )*
        })*
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_promise_is_in_the_suite() {
        let suite = include_str!("mod.rs");
        let modules = [
            ("append", include_str!("append.rs")),
            ("read", include_str!("read.rs")),
            ("time", include_str!("time.rs")),
            ("trim", include_str!("trim.rs")),
            ("producer", include_str!("producer.rs")),
            ("dedup", include_str!("dedup.rs")),
            ("topics", include_str!("topics.rs")),
            ("lifecycle", include_str!("lifecycle.rs")),
            ("meta", include_str!("meta.rs")),
            ("lease", include_str!("lease.rs")),
            ("watch", include_str!("watch.rs")),
        ];
        let mut promises = 0;
        for (module, source) in modules {
            for line in source.lines() {
                let Some((name, _)) = line.strip_prefix("pub async fn ").and_then(|rest| rest.split_once('<')) else {
                    continue;
                };
                assert!(suite.contains(&format!(" {name},\n")), "{module}::{name} is never run");
                promises += 1;
            }
        }
        assert!(promises > 90, "only {promises} promises were found");
    }
}
