//! The Rust SDK of Synapse
