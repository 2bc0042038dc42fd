//! The gRPC interface of Synapse: `.proto` files and the types generated from them.
//!
//! The files under `proto/` are the documentation of record; this crate adds nothing to them but [`DESCRIPTORS`], which
//! the server needs for reflection.

/// Package `synapse.v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used)]
pub mod v1 {
    tonic::include_proto!("synapse.v1");
}

/// The encoded `FileDescriptorSet` of all files.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The trailer of a failed call that carries the stable error code.
pub const ERROR_CODE_METADATA: &str = "synapse-error-code";
/// The trailer of a failed call that says after how many milliseconds a retry may help.
pub const RETRY_AFTER_METADATA: &str = "synapse-retry-after-ms";
