//! CloudEvents 1.0, JSON format: structured and batched mode.
