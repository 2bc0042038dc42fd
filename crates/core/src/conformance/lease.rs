//! Promises of leases.

use std::time::Duration;

use super::{
    Harness, PATIENCE,
    meta::list,
    support::{Fixture, within},
};
use crate::meta::MetaStore;

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(150);

async fn lease(meta: &dyn MetaStore, key: &str, holder: &str, ttl: Duration) -> bool {
    within("lease", meta.lease(key, holder, ttl)).await.expect("lease failed")
}

async fn release(meta: &dyn MetaStore, key: &str, holder: &str) {
    within("release", meta.release(key, holder)).await.expect("release failed");
}

pub async fn a_lease_has_one_holder<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    assert!(lease(&*meta, "retention", "hub-1", LONG).await);
    assert!(!lease(&*meta, "retention", "hub-2", LONG).await);
    // It is renewed by the one who has it, and others are others.
    assert!(lease(&*meta, "retention", "hub-1", LONG).await);
    assert!(lease(&*meta, "other", "hub-2", LONG).await);
    // Who does not hold it cannot give it back.
    release(&*meta, "retention", "hub-2").await;
    release(&*meta, "never", "hub-2").await;
    assert!(!lease(&*meta, "retention", "hub-2", LONG).await);
    release(&*meta, "retention", "hub-1").await;
    assert!(lease(&*meta, "retention", "hub-2", LONG).await);
    assert!(!lease(&*meta, "retention", "hub-1", LONG).await);
}

pub async fn a_lease_that_is_not_renewed_is_free<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    assert!(lease(&*meta, "a", "hub-1", SHORT).await);
    within("the end of a lease", async {
        while !lease(&*meta, "a", "hub-2", LONG).await {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await;
    assert!(!lease(&*meta, "a", "hub-1", SHORT).await);
    // A renewal counts from when it was made.
    assert!(lease(&*meta, "b", "hub-1", SHORT).await);
    assert!(lease(&*meta, "b", "hub-1", LONG).await);
    tokio::time::sleep(SHORT * 2).await;
    assert!(!lease(&*meta, "b", "hub-2", LONG).await);
}

pub async fn one_of_many_takers_gets_a_lease<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    for round in 0..10 {
        let key = format!("lease/{round}");
        let takers: Vec<_> = (0..16)
            .map(|taker| {
                let (meta, key) = (fixture.meta(), key.clone());
                tokio::spawn(async move { lease(&*meta, &key, &format!("hub-{taker}"), LONG).await })
            })
            .collect();
        let mut holders = 0;
        for taker in takers {
            holders += usize::from(within("a taker", taker).await.unwrap());
        }
        assert_eq!(holders, 1);
    }
}

pub async fn leases_are_no_documents<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let meta = fixture.meta();
    assert!(lease(&*meta, "a", "hub-1", LONG).await);
    assert_eq!(list(&*meta, "").await, []);
    let version = super::meta::put(&*meta, "a", "document").await;
    assert!(!lease(&*meta, "a", "hub-2", LONG).await);
    release(&*meta, "a", "hub-1").await;
    assert_eq!(super::meta::get(&*meta, "a").await.unwrap().version, version);
}

pub async fn hubs_share_their_leases<H: Harness>() {
    let fixture = Fixture::<H>::new().await;
    let Some(second) = fixture.second_hub().await else { return };
    let (here, there) = (fixture.meta(), second.meta());
    assert!(lease(&*here, "a", "hub-1", LONG).await);
    assert!(!lease(&*there, "a", "hub-2", LONG).await);
    release(&*here, "a", "hub-1").await;
    assert!(lease(&*there, "a", "hub-2", LONG).await);
    assert!(!lease(&*here, "a", "hub-1", LONG).await);
    within("shutdown", second.shutdown(PATIENCE)).await;
}
