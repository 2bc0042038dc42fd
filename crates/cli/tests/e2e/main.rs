//! The real binary, end to end: on an embedded log and on a real Redis.

mod command_line;
mod failures;
mod many;
mod serving;
mod support;
