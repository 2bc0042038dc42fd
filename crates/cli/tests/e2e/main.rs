//! The real binary, end to end: on an embedded log and on a real Redis.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

mod command_line;
mod failures;
mod many;
mod serving;
mod support;
