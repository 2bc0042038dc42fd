//! Promises of trimming, and of what readers are told of it.

use futures::Stream;

use super::{
    Harness,
    support::{
        End, Fixture, append, bounds, contents, event_of_size, items, next, numbers, positions, records, store, take,
        take_gap, trim,
    },
};
use crate::{
    Position, Result,
    backend::{Append, EventLog, Gap, GapCounts, GapReason, ReadItem, ReadLimits, Trim},
};

fn up_to(position: Position) -> Trim {
    Trim { up_to: Some(position), ..Trim::default() }
}

/// Ten batches of ten events.
async fn hundred(log: &dyn EventLog) -> Vec<Position> {
    let mut given = Vec::new();
    for start in (0..100).step_by(10) {
        given.extend(append(log, start..start + 10).await);
    }
    given
}

/// Checks a gap whose events after `after` are gone and of which `left` are still there.
fn check_gap<H: Harness>(fixture: &Fixture<H>, gap: &Gap, after: Position, lost: u64, left: &[Position]) {
    assert_eq!(gap.reason, GapReason::Trimmed, "{gap:?}");
    assert_eq!(gap.after, after, "{gap:?}");
    assert!(gap.resume >= after, "{gap:?}");
    assert_eq!(gap.earliest, left.first().copied(), "{gap:?}");
    assert!(left.iter().all(|&position| gap.resume < position), "{gap:?} would skip what is there");
    check_lost(fixture, gap, lost);
}

fn check_lost<H: Harness>(fixture: &Fixture<H>, gap: &Gap, lost: u64) {
    match (gap.lost, fixture.backend().capabilities().gap_counts) {
        (None, GapCounts::BestEffort) => {}
        (counted, _) => assert_eq!(counted, Some(lost), "{gap:?}"),
    }
}

/// Reads until all of these positions were yielded or said to be gone, in order; returns how many are gone.
async fn account<H, S>(fixture: &Fixture<H>, reader: &mut S, given: &[Position]) -> usize
where
    H: Harness,
    S: Stream<Item = Result<ReadItem>> + Unpin,
{
    let (mut rest, mut gone) = (given, 0);
    while !rest.is_empty() {
        match next(reader).await.expect("the read has ended").expect("reading failed") {
            ReadItem::Batch(batch) => {
                let seen = positions(&batch);
                assert!(rest.starts_with(&seen), "{seen:?} came instead of {:?}", &rest[..rest.len().min(5)]);
                rest = &rest[seen.len()..];
            }
            ReadItem::Gap(gap) => {
                let lost = rest.iter().take_while(|&&position| position <= gap.resume).count();
                assert!(lost > 0, "{gap:?} holds nothing that is gone");
                assert!(gap.after < rest[0] && gap.reason == GapReason::Trimmed, "{gap:?}");
                check_lost(fixture, &gap, lost as u64);
                rest = &rest[lost..];
                gone += lost;
            }
        }
    }
    gone
}

pub async fn trimming_up_to_a_position_removes_exactly_that<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("trim").await;
    let given = hundred(&*log).await;
    let before = bounds(&*log).await;
    for last in [9, 39, 40, 79] {
        let already = 100 - contents(&*log).await.len();
        let removed = trim(&*log, up_to(given[last])).await;
        assert!(removed.is_none_or(|removed| removed as usize == last + 1 - already), "{removed:?}");
        assert_eq!(positions(&contents(&*log).await), given[last + 1..]);
        let bounds = bounds(&*log).await;
        assert_eq!((bounds.earliest, bounds.latest), (Some(given[last + 1]), Some(given[99])));
        assert_eq!(bounds.end, before.end);
        assert!(bounds.events.is_none_or(|events| events as usize == 99 - last), "{bounds:?}");
    }
}

pub async fn trimming_inside_a_batch_keeps_its_rest<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("inside").await;
    let given = hundred(&*log).await;
    for last in [3, 4, 17] {
        trim(&*log, up_to(given[last])).await;
        assert_eq!(positions(&contents(&*log).await), given[last + 1..]);
        assert_eq!(bounds(&*log).await.earliest, Some(given[last + 1]));
    }
}

pub async fn trimming_to_a_number_keeps_the_latest<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("number").await;
    let given = hundred(&*log).await;
    for keep in [200, 100, 60, 55, 1] {
        trim(&*log, Trim { events_max: Some(keep), ..Trim::default() }).await;
        let kept = (keep as usize).min(100);
        assert_eq!(positions(&contents(&*log).await), given[100 - kept..]);
    }
}

pub async fn trimming_to_a_size_keeps_the_latest<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("size").await;
    let mut given = Vec::new();
    for number in 0..100 {
        given.extend(store(&*log, Append::new(vec![event_of_size(number, 4000)])).await.unwrap().positions);
    }
    // About half of it, whatever the backend counts.
    let Some(bytes) = bounds(&*log).await.bytes else { return };
    trim(&*log, Trim { bytes_max: Some(bytes / 2), ..Trim::default() }).await;
    let left = positions(&contents(&*log).await);
    assert!(given.ends_with(&left), "{left:?}");
    assert!((25..=75).contains(&left.len()), "{} of 100 events are left", left.len());
    let after = bounds(&*log).await.bytes.unwrap();
    assert!(after < bytes * 3 / 4, "{after} of {bytes} bytes are left");
    trim(&*log, Trim { bytes_max: Some(bytes), ..Trim::default() }).await;
    assert_eq!(positions(&contents(&*log).await), left);
}

pub async fn approximate_trimming_keeps_at_least_as_much<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("approximate").await;
    let given = hundred(&*log).await;
    trim(&*log, Trim { approximate: true, ..up_to(given[34]) }).await;
    let left = positions(&contents(&*log).await);
    assert!(given.ends_with(&left) && left.len() >= 65, "{left:?}");
    trim(&*log, Trim { approximate: true, events_max: Some(33), ..Trim::default() }).await;
    let left = positions(&contents(&*log).await);
    assert!(given.ends_with(&left) && left.len() >= 33, "{left:?}");
}

pub async fn trimming_nothing_changes_nothing<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("nothing").await;
    let everything = up_to(Position::MAX);
    assert_eq!(trim(&*log, everything).await.unwrap_or(0), 0);
    let given = hundred(&*log).await;
    let before = bounds(&*log).await;
    for nothing in [
        Trim::default(),
        up_to(Position::START),
        up_to(given[0].before()),
        Trim { events_max: Some(100), ..Trim::default() },
    ] {
        assert_eq!(trim(&*log, nothing).await.unwrap_or(0), 0);
        assert_eq!(bounds(&*log).await, before);
    }
    trim(&*log, up_to(given[49])).await;
    let before = bounds(&*log).await;
    // What is gone cannot go again.
    assert_eq!(trim(&*log, up_to(given[20])).await.unwrap_or(0), 0);
    assert_eq!(bounds(&*log).await, before);
}

pub async fn an_emptied_log_keeps_its_end_and_goes_on<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("emptied").await;
    for everything in [up_to(Position::MAX), Trim { events_max: Some(0), ..Trim::default() }] {
        let given = append(&*log, 0..10).await;
        trim(&*log, everything).await;
        let bounds = bounds(&*log).await;
        assert_eq!((bounds.earliest, bounds.latest, bounds.end), (None, None, given[9]));
        assert_eq!(bounds.events.unwrap_or(0), 0);
        let mut reader = log.read(bounds.end, None, ReadLimits::default());
        let more = append(&*log, 10..12).await;
        assert!(more[0] > given[9]);
        assert_eq!(positions(&take(&mut reader, 2).await), more);
        assert_eq!(positions(&contents(&*log).await), more);
    }
}

pub async fn trimming_under_a_reader_is_a_gap<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("under").await;
    let mut given = Vec::new();
    for start in (0..3000).step_by(100) {
        given.extend(append(&*log, start..start + 100).await);
    }
    let limits = ReadLimits { batch_events_max: 10, ..ReadLimits::default() };
    let mut reader = log.read(Position::START, None, limits);
    let seen = take(&mut reader, 5).await.len();
    trim(&*log, up_to(given[2499])).await;
    let gone = account(&fixture, &mut reader, &given[seen..]).await;
    assert!(gone > 0, "a reader was given {} events that are gone", 3000 - gone);
    // And again, while it waits at the end.
    let more = append(&*log, 3000..3010).await;
    assert_eq!(account(&fixture, &mut reader, &more).await, 0);
}

pub async fn trimming_ahead_of_a_slow_reader_is_a_gap<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("slow").await;
    let mut reader = log.read(Position::START, None, ReadLimits::default());
    append(&*log, 0..5).await;
    take(&mut reader, 5).await;
    // It is at the end, and does not look while everything comes and goes.
    let mut given = Vec::new();
    for round in 1..20 {
        given.extend(append(&*log, round * 10..round * 10 + 10).await);
        trim(&*log, Trim { events_max: Some(if round % 2 == 0 { 3 } else { 0 }), ..Trim::default() }).await;
    }
    given.extend(append(&*log, 300..303).await);
    account(&fixture, &mut reader, &given).await;
}

pub async fn reading_from_a_position_that_was_trimmed_away_is_a_gap<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("away").await;
    let given = hundred(&*log).await;
    trim(&*log, up_to(given[49])).await;
    let end = given[99];
    for after in [0, 9, 48] {
        let mut reader = log.read(given[after], None, ReadLimits::default());
        let gap = take_gap(&mut reader).await;
        check_gap(&fixture, &gap, given[after], 49 - after as u64, &given[50..]);
        assert_eq!(positions(&take(&mut reader, 50).await), given[50..]);
        // Whoever resumes after the gap is told nothing more.
        assert_eq!(positions(&records(&*log, gap.resume, end).await), given[50..]);
    }
    // Nothing is missing after the last that is gone.
    assert_eq!(positions(&records(&*log, given[49], end).await), given[50..]);
    // An end within what is gone.
    let items = items(&*log, given[9], given[19]).await;
    assert!(matches!(items.as_slice(), [] | [ReadItem::Gap(_)]), "{items:?}");
    // Nothing is left at all.
    trim(&*log, up_to(Position::MAX)).await;
    let mut reader = log.read(given[97], None, ReadLimits::default());
    check_gap(&fixture, &take_gap(&mut reader).await, given[97], 2, &[]);
    let more = append(&*log, 200..202).await;
    assert_eq!(positions(&take(&mut reader, 2).await), more);
}

pub async fn reading_from_the_start_of_a_trimmed_log_says_what_is_gone<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("start").await;
    let given = hundred(&*log).await;
    trim(&*log, Trim { events_max: Some(5), ..Trim::default() }).await;
    let mut reader = log.read(Position::START, None, ReadLimits::default());
    check_gap(&fixture, &take_gap(&mut reader).await, Position::START, 95, &given[95..]);
    assert_eq!(positions(&take(&mut reader, 5).await), given[95..]);
}

pub async fn a_gap_is_told_once<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("once").await;
    let given = hundred(&*log).await;
    trim(&*log, up_to(given[29])).await;
    let mut reader = log.read(given[9], None, ReadLimits::default());
    take_gap(&mut reader).await;
    assert_eq!(positions(&take(&mut reader, 70).await), given[30..]);
    // What was read already may go without a word.
    trim(&*log, up_to(given[59])).await;
    let mut more = append(&*log, 100..105).await;
    assert_eq!(positions(&take(&mut reader, 5).await), more);
    trim(&*log, up_to(Position::MAX)).await;
    more = append(&*log, 105..110).await;
    assert_eq!(positions(&take(&mut reader, 5).await), more);
}

pub async fn trims_stay_across_a_reopening<H: Harness>() {
    for end in [End::Shutdown, End::Crash] {
        let mut fixture = Fixture::<H>::new().await;
        if !fixture.survives() {
            return;
        }
        let log = fixture.log("stays").await;
        let given = hundred(&*log).await;
        trim(&*log, up_to(given[44])).await;
        let before = bounds(&*log).await;
        drop(log);
        fixture.reopen(end).await;
        let log = fixture.log("stays").await;
        let after = bounds(&*log).await;
        assert_eq!((after.earliest, after.latest), (before.earliest, before.latest), "{end:?}");
        assert_eq!((after.events, after.bytes), (before.events, before.bytes), "{end:?}");
        let mut reader = log.read(given[9], None, ReadLimits::default());
        check_gap(&fixture, &take_gap(&mut reader).await, given[9], 35, &given[45..]);
        assert_eq!(numbers(&take(&mut reader, 55).await), (45..100).collect::<Vec<_>>());
    }
}
