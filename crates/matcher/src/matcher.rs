//! The set of all live patterns of a topic.

use std::{fmt, hash::Hash, sync::Arc};

use crate::{Explanation, Input, Pattern, Scratch, index::Index};

/// Many patterns, each under an id.
///
/// A clone is a snapshot: it costs one count, and does not see later changes. A change after a clone copies only the pages
/// that it touches, so that a writer can change its own matcher and hand out a snapshot after each change.
///
/// ```
/// use synapse_hub_matcher::{Input, Matcher, Pattern, Scratch};
///
/// let mut matcher = Matcher::new();
/// matcher.insert("ready", &Pattern::parse(r#"{"event": ["model-ready"]}"#)?);
/// matcher.insert("good", &Pattern::parse(r#"{"metrics.loss": [{"numeric": ["<", 0.1]}]}"#)?);
///
/// let input = Input { attributes: &[("event", "model-ready")], data: br#"{"metrics": {"loss": 0.07}}"# };
/// let (mut scratch, mut out) = (Scratch::new(), Vec::new());
/// matcher.matches(&input, &mut scratch, &mut out);
/// out.sort();
/// assert_eq!(out, ["good", "ready"]);
/// # Ok::<(), synapse_hub_matcher::PatternError>(())
/// ```
#[derive(Clone)]
pub struct Matcher<Id> {
    index: Arc<Index<Id>>,
}

impl<Id: Copy + Eq + Hash> Default for Matcher<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id> fmt::Debug for Matcher<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").finish_non_exhaustive()
    }
}

impl<Id: Copy + Eq + Hash> Matcher<Id> {
    /// No patterns.
    pub fn new() -> Self {
        Self { index: Arc::new(Index::default()) }
    }

    /// Adds a pattern. An id may have several: it matches if any of them does.
    pub fn insert(&mut self, id: Id, pattern: &Pattern) {
        Arc::make_mut(&mut self.index).insert(id, pattern);
    }

    /// Removes all patterns of an id, and says whether there were any.
    pub fn remove(&mut self, id: &Id) -> bool {
        Arc::make_mut(&mut self.index).remove(id)
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the ids of the patterns that the event matches, each once, in no order.
    pub fn matches(&self, input: &Input<'_>, scratch: &mut Scratch, out: &mut Vec<Id>) {
        self.index.matches(input, &mut scratch.view, &mut scratch.work, out);
    }
}

/// Whether the event matches the pattern, and if not, the first predicate that failed.
pub fn explain(pattern: &Pattern, input: &Input<'_>) -> Explanation {
    pattern.explain(input)
}
