//! Promises of looking up times.

use std::time::Duration;

use super::{
    Harness,
    support::{Fixture, append, bounds, contents, items, numbers, positions, records, trim, within},
};
use crate::{
    Position, Timestamp,
    backend::{EventLog, ReadItem, Record, Trim},
};

async fn find(log: &dyn EventLog, time: Timestamp) -> Position {
    within("find", log.find(time)).await.expect("find failed")
}

/// Three batches, well apart in time.
async fn three_moments<H: Harness>(fixture: &Fixture<H>, log: &dyn EventLog) -> Vec<Record> {
    let pause = fixture.backend().capabilities().find_precision * 4 + Duration::from_millis(10);
    for start in [0, 10, 20] {
        append(log, start..start + 5).await;
        tokio::time::sleep(pause).await;
    }
    contents(log).await
}

pub async fn stored_times_never_go_back<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("clock").await;
    let before = Timestamp::now().minus(Duration::from_secs(60));
    for start in 0..50 {
        append(&*log, start..start + 2).await;
    }
    let stored: Vec<_> = contents(&*log).await.iter().map(|record| record.stored).collect();
    assert!(stored.is_sorted(), "{stored:?}");
    assert!(stored[0] > before, "{:?} is not when the event was stored", stored[0]);
}

pub async fn find_leads_to_the_first_event_of_a_time<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("moments").await;
    let stored = three_moments(&fixture, &*log).await;
    let precision = i64::try_from(fixture.backend().capabilities().find_precision.as_nanos()).unwrap();
    let end = bounds(&*log).await.end;
    for (first, later) in [(0, 0..15), (5, 5..15), (10, 10..15)] {
        let time = Timestamp::from_nanos(stored[first].stored.as_nanos() - precision);
        let found = find(&*log, time).await;
        assert_eq!(positions(&records(&*log, found, end).await), positions(&stored[later]));
    }
    // Just after a moment is before the next.
    let time = Timestamp::from_nanos(stored[4].stored.as_nanos() + precision + 1);
    let found = find(&*log, time).await;
    assert_eq!(numbers(&records(&*log, found, end).await), [10, 11, 12, 13, 14, 20, 21, 22, 23, 24]);
}

pub async fn find_knows_the_edges<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("edges").await;
    let (early, late) = (Timestamp::from_nanos(1), Timestamp::from_nanos(i64::MAX));
    assert_eq!(find(&*log, early).await, Position::START);
    assert_eq!(find(&*log, late).await, Position::START);
    let stored = three_moments(&fixture, &*log).await;
    let end = bounds(&*log).await.end;
    assert_eq!(find(&*log, Timestamp::from_nanos(i64::MIN)).await, Position::START);
    assert_eq!(find(&*log, early).await, Position::START);
    assert_eq!(find(&*log, late).await, end);
    assert_eq!(end, stored.last().unwrap().position);
}

pub async fn find_in_a_trimmed_log_leads_to_what_is_left_or_to_its_gap<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let log = fixture.log("trimmed-moments").await;
    let stored = three_moments(&fixture, &*log).await;
    trim(&*log, Trim { up_to: Some(stored[6].position), ..Trim::default() }).await;
    let end = bounds(&*log).await.end;
    let time = |index: usize| stored[index].stored;
    let precision = i64::try_from(fixture.backend().capabilities().find_precision.as_nanos()).unwrap();
    let found = find(&*log, Timestamp::from_nanos(time(10).as_nanos() - precision)).await;
    assert_eq!(numbers(&records(&*log, found, end).await), [20, 21, 22, 23, 24]);
    // Some of what was stored then is gone, which must not go unnoticed.
    for early in [Timestamp::from_nanos(1), Timestamp::from_nanos(time(0).as_nanos() - precision)] {
        let found = find(&*log, early).await;
        let items = items(&*log, found, end).await;
        assert!(matches!(items.first(), Some(ReadItem::Gap(_))), "{items:?}");
        let left = items.into_iter().filter_map(|item| match item {
            ReadItem::Batch(records) => Some(numbers(&records)),
            ReadItem::Gap(_) => None,
        });
        assert_eq!(left.flatten().collect::<Vec<_>>(), [12, 13, 14, 20, 21, 22, 23, 24]);
    }
}
