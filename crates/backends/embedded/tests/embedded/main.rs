//! The embedded log against real files.

// Tests fail by panicking, also in what they share.
#![allow(clippy::unwrap_used)]

mod conformance;
mod disk;
mod kill;
