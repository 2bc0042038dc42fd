//! Promises of documents.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use super::{
    Harness, PATIENCE,
    support::{End, Fixture, assert_code, within},
};
use crate::{
    Code, Result,
    meta::{DOCUMENT_BYTES_MAX, Document, Expected, KEY_BYTES_MAX, MetaStore},
};

pub(super) async fn get(meta: &dyn MetaStore, key: &str) -> Option<Document> {
    within("get", meta.get(key)).await.expect("get failed")
}

pub(super) async fn list(meta: &dyn MetaStore, prefix: &str) -> Vec<Document> {
    within("list", meta.list(prefix)).await.expect("list failed")
}

pub(super) async fn put(meta: &dyn MetaStore, key: &str, value: &str) -> u64 {
    try_put(meta, key, value, Expected::Any).await.expect("put failed")
}

async fn try_put(meta: &dyn MetaStore, key: &str, value: &str, expected: Expected) -> Result<u64> {
    within("put", meta.put(key, Bytes::copy_from_slice(value.as_bytes()), expected)).await
}

pub(super) async fn delete(meta: &dyn MetaStore, key: &str) -> bool {
    try_delete(meta, key, Expected::Any).await.expect("delete failed")
}

async fn try_delete(meta: &dyn MetaStore, key: &str, expected: Expected) -> Result<bool> {
    within("delete", meta.delete(key, expected)).await
}

fn keys(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|document| document.key.as_str()).collect()
}

pub async fn a_document_comes_back_with_its_version<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    assert_eq!(get(&*meta, "topics/a").await, None);
    let binary: Bytes = (0..=255).collect::<Vec<u8>>().into();
    for (key, value) in [("topics/a", Bytes::from("{}")), ("b", Bytes::new()), ("ключ/ü 1\n", binary)] {
        let version = within("put", meta.put(key, value.clone(), Expected::Any)).await.unwrap();
        assert!(version >= 1);
        let expected = Document { key: key.into(), value, version };
        assert_eq!(get(&*meta, key).await, Some(expected.clone()));
        assert_eq!(list(&*meta, key).await, [expected]);
    }
    assert!(delete(&*meta, "b").await);
    assert_eq!(get(&*meta, "b").await, None);
    assert!(!delete(&*meta, "b").await);
}

pub async fn versions_grow_and_are_never_given_again<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    let mut last = 0;
    for round in 0..20 {
        let version = put(&*meta, "a", &format!("{round}")).await;
        assert!(version > last, "version {version} came after {last}");
        last = version;
        // Also the same content is a change.
        let version = put(&*meta, "a", &format!("{round}")).await;
        assert!(version > last, "version {version} came after {last}");
        last = version;
        if round % 3 == 0 {
            assert!(delete(&*meta, "a").await);
        }
        put(&*meta, "b", "").await;
    }
}

pub async fn a_change_demands_what_it_says<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    let conflict = |result| assert_code(result, Code::Conflict);
    conflict(try_put(&*meta, "a", "no", Expected::Version(1)).await);
    assert_code(try_delete(&*meta, "a", Expected::Version(1)).await, Code::Conflict);
    assert!(!try_delete(&*meta, "a", Expected::Absent).await.unwrap());
    assert_eq!(get(&*meta, "a").await, None);

    let first = try_put(&*meta, "a", "first", Expected::Absent).await.unwrap();
    conflict(try_put(&*meta, "a", "no", Expected::Absent).await);
    conflict(try_put(&*meta, "a", "no", Expected::Version(first + 1)).await);
    assert_eq!(get(&*meta, "a").await.unwrap().value, "first");
    let second = try_put(&*meta, "a", "second", Expected::Version(first)).await.unwrap();
    conflict(try_put(&*meta, "a", "no", Expected::Version(first)).await);
    for wrong in [Expected::Version(first), Expected::Absent] {
        assert_code(try_delete(&*meta, "a", wrong).await, Code::Conflict);
    }
    assert_eq!(get(&*meta, "a").await.unwrap().value, "second");
    assert!(try_delete(&*meta, "a", Expected::Version(second)).await.unwrap());
    // What was deleted has no version any more, and what comes again has another.
    conflict(try_put(&*meta, "a", "no", Expected::Version(second)).await);
    let third = try_put(&*meta, "a", "third", Expected::Absent).await.unwrap();
    assert!(third > second);
    conflict(try_put(&*meta, "a", "no", Expected::Version(second)).await);
    assert_eq!(get(&*meta, "a").await.unwrap().value, "third");
}

pub async fn one_of_many_creators_wins<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    for round in 0..10 {
        let key = format!("race/{round}");
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (meta, key) = (fixture.meta(), key.clone());
                tokio::spawn(async move { try_put(&*meta, &key, &task.to_string(), Expected::Absent).await })
            })
            .collect();
        let mut winners = Vec::new();
        for (task, outcome) in tasks.into_iter().enumerate() {
            match within("a creator", outcome).await.unwrap() {
                Ok(version) => winners.push((task, version)),
                Err(error) => assert_eq!(error.code(), Code::Conflict, "{error}"),
            }
        }
        let [(winner, version)] = winners.as_slice() else { panic!("{winners:?} have won") };
        let document = get(&*fixture.meta(), &key).await.unwrap();
        assert_eq!((document.value, document.version), (Bytes::from(winner.to_string()), *version));
    }
}

pub async fn no_change_is_lost_between_concurrent_writers<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    put(&*fixture.meta(), "counter", "0").await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let meta: Arc<dyn MetaStore> = fixture.meta();
            tokio::spawn(async move {
                let mut versions = Vec::new();
                while versions.len() < 25 {
                    let document = get(&*meta, "counter").await.unwrap();
                    let count: u64 = std::str::from_utf8(&document.value).unwrap().parse().unwrap();
                    let next = (count + 1).to_string();
                    match try_put(&*meta, "counter", &next, Expected::Version(document.version)).await {
                        Ok(version) => versions.push(version),
                        Err(error) => assert_eq!(error.code(), Code::Conflict, "{error}"),
                    }
                }
                versions
            })
        })
        .collect();
    let mut versions = BTreeSet::new();
    for task in tasks {
        versions.extend(within("a writer", task).await.unwrap());
    }
    assert_eq!(versions.len(), 200);
    let document = get(&*fixture.meta(), "counter").await.unwrap();
    assert_eq!((document.value, Some(&document.version)), (Bytes::from("200"), versions.last()));
}

pub async fn documents_are_listed_by_prefix_and_in_order<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    assert_eq!(list(&*meta, "").await, []);
    for number in (0..150).rev() {
        put(&*meta, &format!("many/{number:03}"), &number.to_string()).await;
    }
    for key in ["b/1", "a", "a/2", "a/10", "ab", "b", "A/1"] {
        put(&*meta, key, key).await;
    }
    assert_eq!(keys(&list(&*meta, "a").await), ["a", "a/10", "a/2", "ab"]);
    assert_eq!(keys(&list(&*meta, "a/").await), ["a/10", "a/2"]);
    assert_eq!(keys(&list(&*meta, "c").await), Vec::<&str>::new());
    let many = list(&*meta, "many/").await;
    assert_eq!(keys(&many), (0..150).map(|number| format!("many/{number:03}")).collect::<Vec<_>>());
    assert!(many.iter().enumerate().all(|(number, document)| document.value == number.to_string()));
    let all = list(&*meta, "").await;
    assert_eq!(all.len(), 157);
    assert!(keys(&all).is_sorted());
    delete(&*meta, "a/10").await;
    assert_eq!(keys(&list(&*meta, "a").await), ["a", "a/2", "ab"]);
}

pub async fn a_prefix_is_no_pattern<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    for key in ["a*b", "axb", "a?c", "a[xy]d", "a\\e", "a%f", "a_g"] {
        put(&*meta, key, "").await;
    }
    assert_eq!(keys(&list(&*meta, "a*").await), ["a*b"]);
    assert_eq!(keys(&list(&*meta, "a?").await), ["a?c"]);
    assert_eq!(keys(&list(&*meta, "a[xy]").await), ["a[xy]d"]);
    assert_eq!(keys(&list(&*meta, "a\\").await), ["a\\e"]);
    assert_eq!(list(&*meta, "*").await, []);
    assert_eq!(list(&*meta, "a").await.len(), 7);
}

pub async fn sizes_are_limited<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    let key = "k".repeat(KEY_BYTES_MAX);
    let value = Bytes::from(vec![b'v'; DOCUMENT_BYTES_MAX]);
    within("put", meta.put(&key, value.clone(), Expected::Any)).await.unwrap();
    assert_eq!(get(&*meta, &key).await.unwrap().value, value);
    let longer_key = within("put", meta.put(&format!("{key}k"), Bytes::new(), Expected::Any)).await;
    assert_code(longer_key, Code::InvalidArgument);
    let larger = Bytes::from(vec![b'v'; DOCUMENT_BYTES_MAX + 1]);
    assert_code(within("put", meta.put("large", larger, Expected::Any)).await, Code::InvalidArgument);
    assert_eq!(list(&*meta, "").await.len(), 1);
}

pub async fn documents_survive_what_is_claimed<H: Harness>() {
    for end in [End::Shutdown, End::Crash] {
        let mut fixture = Fixture::<H>::new().await;
        let meta = fixture.meta();
        put(&*meta, "kept", "1").await;
        let version = put(&*meta, "kept", "2").await;
        let gone = put(&*meta, "gone", "3").await;
        delete(&*meta, "gone").await;
        let revision = meta.revision().await.unwrap();
        drop(meta);
        let survives = fixture.survives();
        fixture.reopen(end).await;
        let meta = fixture.meta();
        if !survives {
            if matches!(end, End::Crash) {
                assert_eq!(list(&*meta, "").await, [], "more survives than is claimed");
            }
            continue;
        }
        let kept = Document { key: "kept".into(), value: Bytes::from("2"), version };
        assert_eq!(list(&*meta, "").await, [kept], "{end:?}");
        assert!(meta.revision().await.unwrap() >= revision, "{end:?}");
        assert!(put(&*meta, "kept", "4").await > version, "{end:?}");
        assert!(put(&*meta, "gone", "5").await > gone, "{end:?}");
    }
}

pub async fn hubs_share_their_documents<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let Some(second) = fixture.second_hub().await else { return };
    let (here, there) = (fixture.meta(), second.meta());
    let version = put(&*here, "a", "1").await;
    assert_eq!(get(&*there, "a").await.unwrap().version, version);
    let next = try_put(&*there, "a", "2", Expected::Version(version)).await.unwrap();
    assert_code(try_put(&*here, "a", "3", Expected::Version(version)).await, Code::Conflict);
    assert_eq!(get(&*here, "a").await, get(&*there, "a").await);
    assert!(try_delete(&*here, "a", Expected::Version(next)).await.unwrap());
    assert_eq!(list(&*there, "").await, []);
    within("shutdown", second.shutdown(PATIENCE)).await;
}
