//! Promises of watching documents.

use std::collections::{BTreeMap, HashMap};

use futures::{Stream, StreamExt as _};

use super::{
    Harness, PATIENCE,
    meta::{delete, list, put},
    support::{End, Fixture, within},
};
use crate::{Result, meta::Change, meta::MetaStore};

async fn revision(meta: &dyn MetaStore) -> u64 {
    within("revision", meta.revision()).await.expect("revision failed")
}

async fn next<S: Stream<Item = Result<Change>> + Unpin>(watch: &mut S) -> Change {
    within("a watch", watch.next()).await.expect("the watch has ended").expect("the watch failed")
}

/// The documents that a watch has told of so far, as texts.
#[derive(Default)]
struct View {
    documents: BTreeMap<String, (u64, Option<String>)>,
}

impl View {
    fn take(&mut self, change: Change) {
        let text = change.document.map(|document| {
            assert_eq!(document.key, change.key);
            String::from_utf8(document.value.to_vec()).unwrap()
        });
        let known = self.documents.entry(change.key).or_default();
        assert!(known.0 <= change.revision, "a document went back from {} to {}", known.0, change.revision);
        *known = (change.revision, text);
    }

    /// Watches until everything is as it should be.
    async fn reach<S: Stream<Item = Result<Change>> + Unpin>(
        &mut self,
        watch: &mut S,
        wanted: &HashMap<String, String>,
    ) {
        while !wanted.iter().all(|(key, text)| self.get(key) == Some(text)) {
            self.take(next(watch).await);
        }
    }

    fn get(&self, key: &str) -> Option<&String> {
        self.documents.get(key)?.1.as_ref()
    }
}

pub async fn a_watch_sees_every_document_and_each_change_in_order<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    for key in ["a/1", "a/2", "b/1"] {
        put(&*meta, key, "before").await;
    }
    let mut watch = meta.watch("a/", 0);
    let mut view = View::default();
    let wanted = ["a/1", "a/2"].map(|key| (key.to_owned(), "before".to_owned())).into();
    view.reach(&mut watch, &wanted).await;
    // Whoever follows closely sees every single change.
    let mut last = 0;
    for round in 0..50 {
        let key = format!("a/{}", round % 3);
        let version = put(&*meta, &key, &round.to_string()).await;
        let change = next(&mut watch).await;
        let document = change.document.expect("nothing was deleted");
        assert_eq!((change.key.as_str(), document.version), (key.as_str(), version));
        assert_eq!(document.value, round.to_string());
        assert!(change.revision > last);
        last = change.revision;
    }
}

pub async fn a_watch_starts_after_its_revision<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    put(&*meta, "a", "old").await;
    let start = revision(&*meta).await;
    let mut waiting = meta.watch("", start);
    put(&*meta, "b", "1").await;
    let middle = revision(&*meta).await;
    put(&*meta, "c", "2").await;
    let mut late = meta.watch("", start);
    let mut later = meta.watch("", middle);
    for watch in [&mut waiting, &mut late] {
        let changes = [next(watch).await, next(watch).await];
        assert_eq!(changes.each_ref().map(|change| change.key.as_str()), ["b", "c"]);
        assert!(start < changes[0].revision && changes[0].revision <= middle && middle < changes[1].revision);
    }
    assert_eq!(next(&mut later).await.key, "c");
}

pub async fn a_watch_sees_deletions<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    put(&*meta, "a", "1").await;
    let mut watch = meta.watch("a", revision(&*meta).await);
    for round in 0..5 {
        delete(&*meta, "a").await;
        let change = next(&mut watch).await;
        assert_eq!((change.key.as_str(), change.document), ("a", None));
        put(&*meta, "a", &round.to_string()).await;
        let change = next(&mut watch).await;
        assert_eq!(change.document.expect("it is there again").value, round.to_string());
    }
    // What was not there is no change.
    delete(&*meta, "absent").await;
    delete(&*meta, "a absent").await;
    put(&*meta, "a", "last").await;
    assert_eq!(next(&mut watch).await.document.unwrap().value, "last");
}

pub async fn watches_see_only_their_prefix<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    let mut watches = ["x/", "y/", ""].map(|prefix| meta.watch(prefix, 0));
    for round in 0..10 {
        for key in ["x/1", "y/1", "x", "xy/1", "y/2"] {
            put(&*meta, key, &round.to_string()).await;
        }
    }
    for (watch, (own, keys)) in watches.iter_mut().zip([(10, "x/1"), (20, "y/1 y/2"), (50, "x/1 y/1 x xy/1 y/2")]) {
        let wanted = keys.split(' ').map(|key| (key.to_owned(), "9".to_owned())).collect();
        let mut view = View::default();
        view.reach(watch, &wanted).await;
        assert_eq!(view.documents.len(), wanted.len(), "of {own} changes under {keys}");
    }
}

pub async fn a_watch_from_too_long_ago_sees_every_document<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    // More changes than any store needs to remember.
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let meta = fixture.meta();
            tokio::spawn(async move {
                for round in 0..750 {
                    put(&*meta, &format!("d/{task:02}/{}", round % 3), &round.to_string()).await;
                }
            })
        })
        .collect();
    for task in tasks {
        within("a writer", task).await.unwrap();
    }
    let meta = fixture.meta();
    for task in 0..4 {
        delete(&*meta, &format!("d/{task:02}/0")).await;
    }
    let documents = list(&*meta, "d/").await;
    assert_eq!(documents.len(), 44);
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    let mut wanted: HashMap<_, _> =
        documents.iter().map(|document| (document.key.clone(), text(&document.value))).collect();
    let mut watch = meta.watch("d/", 0);
    let mut view = View::default();
    view.reach(&mut watch, &wanted).await;
    for task in 0..4 {
        assert_eq!(view.get(&format!("d/{task:02}/0")), None, "a deleted document was told of, but not its deletion");
    }
    // And then it is as any other.
    put(&*meta, "d/new", "1").await;
    wanted.insert("d/new".into(), "1".into());
    view.reach(&mut watch, &wanted).await;
}

pub async fn a_watch_goes_on_from_before_a_reopening<H: Harness>() {
    for end in [End::Shutdown, End::Crash] {
        let mut fixture = Fixture::<H>::new().await;
        if !fixture.survives() {
            return;
        }
        let meta = fixture.meta();
        put(&*meta, "a", "1").await;
        let seen = revision(&*meta).await;
        put(&*meta, "b", "2").await;
        drop(meta);
        fixture.reopen(end).await;
        let meta = fixture.meta();
        let mut watch = meta.watch("", seen);
        put(&*meta, "c", "3").await;
        let wanted = [("b", "2"), ("c", "3")].map(|(key, text)| (key.to_owned(), text.to_owned())).into();
        View::default().reach(&mut watch, &wanted).await;
    }
}

pub async fn a_watch_sees_the_changes_of_other_hubs<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let Some(second) = fixture.second_hub().await else { return };
    let mut watch = fixture.meta().watch("a", 0);
    for round in 0..10 {
        put(&*second.meta(), "a", &round.to_string()).await;
        assert_eq!(next(&mut watch).await.document.unwrap().value, round.to_string());
    }
    delete(&*second.meta(), "a").await;
    assert_eq!(next(&mut watch).await.document, None);
    assert_eq!(revision(&*fixture.meta()).await, revision(&*second.meta()).await);
    within("shutdown", second.shutdown(PATIENCE)).await;
}

pub async fn the_revision_grows_with_every_change<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    assert_eq!(revision(&*meta).await, 0);
    let mut last = 0;
    for round in 0..5 {
        put(&*meta, "a", "").await;
        let put = revision(&*meta).await;
        delete(&*meta, "a").await;
        let deleted = revision(&*meta).await;
        assert!(last < put && put < deleted, "round {round}: {last} {put} {deleted}");
        last = deleted;
        // What changes nothing has no revision.
        delete(&*meta, "a").await;
        assert_eq!(revision(&*meta).await, last);
    }
}
