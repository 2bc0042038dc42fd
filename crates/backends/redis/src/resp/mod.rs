//! The Redis protocol (RESP 2): commands written straight into a buffer, replies read without copying.
//!
//! A general client builds a value tree for every reply and a list of arguments for every command, which costs more than
//! all the rest of an append or a read. Here a command is bytes, and a reply is the bytes that came with an index of them.

mod command;
mod reply;

pub(crate) use command::{array, bulk, bulk_display, command};
pub(crate) use reply::{Cursor, Parser, Replies, View};
