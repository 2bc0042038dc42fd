//! What is matched: the flat view of an event.

use std::borrow::Cow;

use crate::Fields;

/// The attributes of an event, which are texts at the top level of its flat view.
pub trait Attributes {
    /// The attribute of this name, one of [`ATTRIBUTES`]; none if the event has none. It is asked for at most once an
    /// event, and only where a pattern names it.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// The names that [`Attributes::get`] is asked for.
pub const ATTRIBUTES: [&str; 6] = ["topic", "event", "timestamp", "source", "id", "correlation_id"];

/// No attributes: the data alone is matched.
impl Attributes for () {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// Pairs of names and texts; the first of a name counts.
impl<const N: usize> Attributes for [(&str, &str); N] {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.iter().find(|(own, _)| *own == name).map(|(_, text)| Cow::Borrowed(*text))
    }
}

/// An event to be matched: its flat view is the attributes and, below them, the top-level keys of the data.
///
/// An attribute that the event has wins over a key of the same name. A path that begins with `data.` reaches into the data
/// itself, unless the data has a key `data` of its own; so what an attribute hides can be named. Data that is JSON but no
/// object is the value of `data`. Data that is not JSON has no fields.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The attributes.
    pub attributes: &'a dyn Attributes,
    /// JSON text, or nothing.
    pub data: &'a [u8],
}

/// Where an event's data comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Json(&'a [u8]),
    Fields(&'a Fields),
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("data", &String::from_utf8_lossy(self.data)).finish_non_exhaustive()
    }
}
