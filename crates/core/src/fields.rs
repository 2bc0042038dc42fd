//! The types of fields, for entries that carry all their values as text.
//!
//! A program that writes to Redis by hand writes every value as text. What the text stands for is said by the entry
//! itself (when Synapse wrote it), else by the types that are known for its event type, else it stays text: types are
//! never guessed from the looks of a value, and a version `"1.0"` stays text.

/// What a text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Text.
    Text,
    /// A JSON number.
    Number,
    /// `true`, `false`, also as Python writes them.
    Boolean,
    /// An object or list as JSON text.
    Json,
}

/// Knows the types of fields. Schemas implement it; [`WellKnown`] is what holds without any.
pub trait FieldTypes: Send + Sync + 'static {
    /// The type of the field `field` of events of type `event_type` in `topic`; `None` when it is not known.
    fn kind(&self, topic: &str, event_type: &str, field: &str) -> Option<FieldKind>;
}

/// The fields of the ModelKit events that run on the platform already.
#[derive(Debug, Clone, Copy, Default)]
pub struct WellKnown;

impl FieldTypes for WellKnown {
    fn kind(&self, _topic: &str, event_type: &str, field: &str) -> Option<FieldKind> {
        use FieldKind::{Boolean, Json, Number};
        Some(match (event_type, field) {
            ("model-ready" | "model-loaded" | "model-failed" | "model-updated" | "model-deprecated", field) => {
                match field {
                    "metadata" | "metrics" => Json,
                    "accuracy" | "size_mb" | "load_time_ms" => Number,
                    _ => return None,
                }
            }
            ("inference-complete" | "inference-failed", field) => match field {
                "latency_ms" | "tokens_used" | "cost" | "confidence" => Number,
                "success" => Boolean,
                "metadata" => Json,
                _ => return None,
            },
            (
                "training-started"
                | "training-progress"
                | "training-checkpoint"
                | "training-complete"
                | "training-failed",
                field,
            ) => match field {
                "progress" | "epoch" | "step" | "loss" => Number,
                "metrics" | "metadata" => Json,
                _ => return None,
            },
            (
                "user-interaction" | "task-created" | "task-started" | "task-completed" | "task-failed",
                "data" | "metadata",
            ) => Json,
            ("agi-decision" | "agi-action", "confidence") => Number,
            ("agi-decision" | "agi-action", "metadata") => Json,
            _ => return None,
        })
    }
}
