#![doc = include_str!("../README.md")]

mod arrays;
mod explain;
mod fields;
mod index;
mod input;
mod json;
mod matcher;
mod number;
mod paths;
mod pattern;
mod test;
mod text;
mod view;

pub use explain::{Explanation, Failure};
pub use fields::{FieldValue, Fields};
pub use input::{ATTRIBUTES, Attributes, Input};
pub use matcher::{Matcher, explain};
pub use pattern::{Limits, Pattern, PatternError};
pub use view::Scratch;
