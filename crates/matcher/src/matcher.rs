//! The set of all live patterns of a topic.

use std::{hash::Hash, sync::Arc};

use rustc_hash::FxHashMap;

use crate::{Explanation, Input, Pattern, Scratch};

/// Memory of the index, within a [`Scratch`].
#[derive(Debug, Default)]
pub(crate) struct Work;

/// Many patterns, each under an id. A clone is a snapshot, and costs next to nothing.
#[derive(Debug, Clone)]
pub struct Matcher<Id> {
    rules: Arc<FxHashMap<Id, Vec<Pattern>>>,
}

impl<Id: Copy + Eq + Hash> Default for Matcher<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id: Copy + Eq + Hash> Matcher<Id> {
    /// No patterns.
    pub fn new() -> Self {
        Self { rules: Arc::new(FxHashMap::default()) }
    }

    /// Adds a pattern. An id may have several: it matches if any of them does.
    pub fn insert(&mut self, id: Id, pattern: &Pattern) {
        Arc::make_mut(&mut self.rules).entry(id).or_default().push(pattern.clone());
    }

    /// Removes all patterns of an id, and says whether there were any.
    pub fn remove(&mut self, id: &Id) -> bool {
        Arc::make_mut(&mut self.rules).remove(id).is_some()
    }

    /// How many ids there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Appends the ids of the patterns that the event matches, each once, in no order.
    pub fn matches(&self, input: &Input<'_>, scratch: &mut Scratch, out: &mut Vec<Id>) {
        for (&id, patterns) in &*self.rules {
            if patterns.iter().any(|pattern| pattern.matches_with(input, scratch)) {
                out.push(id);
            }
        }
    }
}

/// Whether the event matches the pattern, and if not, the first predicate that failed.
pub fn explain(pattern: &Pattern, input: &Input<'_>) -> Explanation {
    pattern.explain(input)
}
