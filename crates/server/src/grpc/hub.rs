//! `HubService`.

use synapse_hub_core::Timestamp;
use synapse_hub_hub::{Hub, HubHealth};
use synapse_hub_proto::v1;

use crate::{VERSION, catalog};

pub(super) async fn info(hub: &Hub) -> v1::InfoResponse {
    let HubHealth { ready, backend, health } = hub.health().await;
    let limits = hub.limits().named().into_iter();
    v1::InfoResponse {
        version: VERSION.into(),
        hub_id: hub.options().hub_id.clone(),
        backend: backend.into(),
        backend_version: health.version.unwrap_or_default(),
        time_unix_nanos: Timestamp::now().as_nanos(),
        backend_time_unix_nanos: health.time.map(Timestamp::as_nanos),
        ready,
        notes: health.notes,
        limits: limits.map(|(name, value)| v1::Limit { name: name.into(), value }).collect(),
        uptime_ms: catalog::millis(hub.uptime()),
    }
}
