//! The embedded log against real files.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

mod conformance;
mod disk;
mod kill;
