//! The set of all live patterns of a topic.

use std::{fmt, hash::Hash, sync::Arc};

use crate::{Attributes, Explanation, Fields, Input, Pattern, Scratch, index::Index, input::Source};

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
        self.index.matches(input.attributes, Source::Json(input.data), scratch, out);
    }

    /// As [`Matcher::matches`], for data that has been parsed.
    pub fn matches_fields(
        &self,
        attributes: &dyn Attributes,
        fields: &Fields,
        scratch: &mut Scratch,
        out: &mut Vec<Id>,
    ) {
        self.index.matches(attributes, Source::Fields(fields), scratch, out);
    }

    /// Whether the event matches what is under the id, and if not, the first predicate that failed; none if there is
    /// nothing under the id. What was inserted is explained as the index holds it: `$or`, and several patterns of one id, as
    /// one `$or` of all alternatives.
    ///
    /// ```
    /// use synapse_hub_matcher::{Input, Matcher, Pattern};
    ///
    /// let mut matcher = Matcher::new();
    /// matcher.insert("good", &Pattern::parse(r#"{"event": ["ready"], "loss": [{"numeric": ["<", 0.1]}]}"#)?);
    /// let input = Input { attributes: &[("event", "ready")], data: br#"{"loss": 0.3}"# };
    /// let failure = matcher.explain(&"good", &input).unwrap().failure.unwrap();
    /// assert_eq!((failure.path.as_str(), failure.wanted.as_str()), ("loss", r#"[{"numeric":["<",0.1]}]"#));
    /// assert_eq!(failure.seen.as_deref(), Some("0.3"));
    /// # Ok::<(), synapse_hub_matcher::PatternError>(())
    /// ```
    pub fn explain(&self, id: &Id, input: &Input<'_>) -> Option<Explanation> {
        Some(self.index.pattern(id)?.explain(input))
    }

    /// As [`Matcher::explain`], for every id, in no order.
    pub fn explain_all(&self, input: &Input<'_>) -> Vec<(Id, Explanation)> {
        self.ids().filter_map(|id| Some((id, self.explain(&id, input)?))).collect()
    }

    /// The ids, each once, in no order.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.index.ids()
    }
}

/// Whether the event matches the pattern, and if not, the first predicate that failed.
pub fn explain(pattern: &Pattern, input: &Input<'_>) -> Explanation {
    pattern.explain(input)
}
