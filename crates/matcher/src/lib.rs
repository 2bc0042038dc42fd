//! Event patterns: parsing, evaluation and the set of all live filters of a topic.

mod arrays;
mod explain;
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
pub use input::{ATTRIBUTES, Attributes, Input};
pub use matcher::{Matcher, explain};
pub use pattern::{Limits, Pattern, PatternError};
pub use view::Scratch;
