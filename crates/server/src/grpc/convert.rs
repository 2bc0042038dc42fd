//! Between the types of the protocol and those of the hub.

use synapse_hub_core::{Code, Durability, Error, Layout, Result};
use synapse_hub_hub::{PartitionDescription, TopicDescription};
use synapse_hub_proto::v1;

use crate::catalog::{AskedSettings, millis};

fn unknown(field: &str) -> Error {
    Error::new(Code::InvalidArgument, "the value is not known to this version of the hub").field(field)
}

/// The durability that a request asks for, if any.
pub(super) fn durability(value: i32) -> Result<Option<Durability>> {
    match v1::Durability::try_from(value) {
        Ok(v1::Durability::Unspecified) => Ok(None),
        Ok(v1::Durability::Memory) => Ok(Some(Durability::Memory)),
        Ok(v1::Durability::Stored) => Ok(Some(Durability::Stored)),
        Ok(v1::Durability::Synced) => Ok(Some(Durability::Synced)),
        Err(_) => Err(unknown("durability")),
    }
}

fn layout(value: i32) -> Result<Option<Layout>> {
    match v1::Layout::try_from(value) {
        Ok(v1::Layout::Unspecified) => Ok(None),
        Ok(v1::Layout::Flat) => Ok(Some(Layout::Flat)),
        Ok(v1::Layout::Packed) => Ok(Some(Layout::Packed)),
        Err(_) => Err(unknown("layout")),
    }
}

/// The settings that a request asks for.
pub(super) fn settings(asked: Option<v1::TopicSettings>) -> Result<AskedSettings> {
    let Some(asked) = asked else { return Ok(AskedSettings::default()) };
    Ok(AskedSettings {
        partitions: asked.partitions,
        durability: durability(asked.durability)?,
        layout: layout(asked.layout)?,
        dedup_window_ms: asked.dedup_window_ms,
        retention_ms: asked.retention_ms,
        retention_bytes: asked.retention_bytes,
        retention_events: asked.retention_events,
    })
}

/// A topic with what it holds.
pub(super) fn description(topic: TopicDescription) -> v1::TopicDescription {
    let settings = &topic.settings;
    let durability = match settings.durability {
        Durability::Memory => v1::Durability::Memory,
        Durability::Stored => v1::Durability::Stored,
        Durability::Synced => v1::Durability::Synced,
    };
    let layout = match settings.layout {
        Layout::Flat => v1::Layout::Flat,
        Layout::Packed => v1::Layout::Packed,
    };
    v1::TopicDescription {
        settings: Some(v1::TopicSettings {
            partitions: Some(settings.partitions),
            durability: durability.into(),
            layout: layout.into(),
            dedup_window_ms: settings.dedup_window.map(millis),
            retention_ms: settings.retention_time.map(millis),
            retention_bytes: settings.retention_bytes,
            retention_events: settings.retention_events,
        }),
        topic: topic.topic.as_str().into(),
        partitions: partitions(&topic.partitions),
        durability: topic.guarantee.text,
        declared: topic.declared,
        revision: topic.revision,
    }
}

/// What partitions hold.
pub(super) fn partitions(partitions: &[PartitionDescription]) -> Vec<v1::PartitionDescription> {
    let one = |partition: &PartitionDescription| v1::PartitionDescription {
        partition: partition.partition,
        earliest: partition.bounds.earliest.map_or_else(String::new, |position| position.to_string()),
        latest: partition.bounds.latest.map_or_else(String::new, |position| position.to_string()),
        events: partition.bounds.events,
        bytes: partition.bounds.bytes,
    };
    partitions.iter().map(one).collect()
}
