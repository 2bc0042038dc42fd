//! Patterns: what a filter or a route wants of an event.

mod compile;
mod parse;
mod tree;

use std::sync::Arc;

pub(crate) use compile::{Compiled, Condition};

use crate::{
    Attributes, Explanation, Fields, Input, Scratch,
    input::Source,
    test::{Test, quote},
};

/// An event pattern. Cheap to clone.
///
/// The language is that of EventBridge: fields that must all match, each with a list of values and operators of which one
/// must match. See the crate's documentation for the whole of it.
///
/// ```
/// use synapse_hub_matcher::Pattern;
///
/// let pattern = Pattern::parse(r#"{"event": "model-ready", "metadata": {"loss": [{"numeric": ["<", 0.1]}]}}"#)?;
/// assert_eq!(pattern.to_json(), r#"{"event":["model-ready"],"metadata.loss":[{"numeric":["<",0.1]}]}"#);
///
/// let error = Pattern::parse(r#"{"event": [{"prefx": "model"}]}"#).unwrap_err();
/// assert_eq!(error.path, "event.prefx");
/// # Ok::<(), synapse_hub_matcher::PatternError>(())
/// ```
#[derive(Clone)]
pub struct Pattern(Arc<Inner>);

struct Inner {
    all: All,
    compiled: Compiled,
    json: Box<str>,
}

/// Fields and alternatives that must all match.
#[derive(Debug, Default)]
pub(crate) struct All {
    pub(crate) fields: Vec<Field>,
    pub(crate) ors: Vec<Or>,
}

/// A `$or`: where it stands, and its members, whose paths are whole.
#[derive(Debug)]
pub(crate) struct Or {
    pub(crate) path: String,
    pub(crate) members: Vec<All>,
}

/// A field and the tests of which one must be satisfied.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) path: String,
    pub(crate) tests: Vec<Test>,
}

/// What a pattern may cost. What is over a limit is refused when the pattern is read, never when an event is matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many segments a path may have, counting each `$or` around it as one. Default 32.
    pub depth: usize,
    /// How many values and operators a pattern may have. Default 4096.
    pub predicates: usize,
    /// Into how many alternatives without `$or` a pattern may fall apart: lists of `$or` multiply. Default 1000.
    pub alternatives: usize,
    /// What the wildcards of a pattern may add up to: for each, its bytes times one more than its stars. Default 4096.
    pub wildcard_complexity: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 32, predicates: 4096, alternatives: 1000, wildcard_complexity: 4096 }
    }
}

/// A pattern that cannot be right: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", if path.is_empty() { String::new() } else { format!("at `{path}`: ") })]
pub struct PatternError {
    /// The keys from the outside in, with dots between them; empty where the pattern as a whole is meant.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
}

impl Pattern {
    /// Reads the JSON of a pattern within the default [`Limits`].
    ///
    /// # Errors
    /// What cannot be right: not JSON, no object, an unknown operator, an empty list, mixed types, a range that no number
    /// is in, too deep, too complex; with the path and the reason.
    pub fn parse(json: &str) -> Result<Self, PatternError> {
        Self::parse_within(json, &Limits::default())
    }

    /// As [`Pattern::parse`], within these limits.
    ///
    /// # Errors
    /// As [`Pattern::parse`].
    pub fn parse_within(json: &str, limits: &Limits) -> Result<Self, PatternError> {
        let tree = tree::Tree::parse(json).map_err(|reason| PatternError { path: String::new(), reason })?;
        Self::build(tree, limits)
    }

    /// As [`Pattern::parse`], from JSON that has been read before. Numbers are as exact as [`serde_json::Number`] is.
    ///
    /// # Errors
    /// As [`Pattern::parse`].
    pub fn from_value(value: &serde_json::Value) -> Result<Self, PatternError> {
        Self::build(tree::Tree::from_value(value), &Limits::default())
    }

    fn build(tree: tree::Tree, limits: &Limits) -> Result<Self, PatternError> {
        Self::of(parse::Parser::new(limits).pattern(tree)?, limits)
    }

    pub(crate) fn of(all: All, limits: &Limits) -> Result<Self, PatternError> {
        let compiled = Compiled::new(&all, limits)?;
        let json = all.to_json().into_boxed_str();
        Ok(Self(Arc::new(Inner { all, compiled, json })))
    }

    /// The canonical JSON: dotted keys in alphabetical order, every field with a list, numbers in their shortest form.
    /// Reading it gives an equal pattern.
    pub fn to_json(&self) -> &str {
        &self.0.json
    }

    /// Whether the event matches. For many events or many patterns use a [`crate::Matcher`].
    pub fn matches(&self, input: &Input<'_>) -> bool {
        self.matches_with(input, &mut Scratch::default())
    }

    /// As [`Pattern::matches`], with memory that is kept from call to call.
    pub fn matches_with(&self, input: &Input<'_>, scratch: &mut Scratch) -> bool {
        self.0.compiled.matches(input.attributes, Source::Json(input.data), scratch)
    }

    /// As [`Pattern::matches_with`], for data that has been parsed.
    pub fn matches_fields(&self, attributes: &dyn Attributes, fields: &Fields, scratch: &mut Scratch) -> bool {
        self.0.compiled.matches(attributes, Source::Fields(fields), scratch)
    }

    /// Whether the event matches, and if not, the first predicate that failed.
    pub fn explain(&self, input: &Input<'_>) -> Explanation {
        crate::explain::explain(self, input)
    }

    pub(crate) fn all(&self) -> &All {
        &self.0.all
    }

    pub(crate) fn compiled(&self) -> &Compiled {
        &self.0.compiled
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.json == other.0.json
    }
}

impl Eq for Pattern {}

impl std::hash::Hash for Pattern {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.json.hash(state);
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pattern").field(&self.to_json()).finish()
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_json())
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;

    fn from_str(json: &str) -> Result<Self, PatternError> {
        Self::parse(json)
    }
}

impl All {
    fn to_json(&self) -> String {
        self.to_json_under("")
    }

    /// With the paths from `base` on: within a `$or` they start where it stands.
    fn to_json_under(&self, base: &str) -> String {
        let fields = self.fields.iter().map(|field| (below(base, &field.path), tests_to_json(&field.tests)));
        let ors = self.ors.iter().map(|or| match below(base, &or.path) {
            "" => ("$or", or.members_to_json()),
            path => (path, format!(r#"{{"$or":{}}}"#, or.members_to_json())),
        });
        let mut entries: Vec<(&str, String)> = fields.chain(ors).collect();
        entries.sort();
        let entries: Vec<String> =
            entries.into_iter().map(|(path, value)| format!("{}:{value}", quote(path))).collect();
        format!("{{{}}}", entries.join(","))
    }
}

impl Or {
    pub(crate) fn members_to_json(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|member| member.to_json_under(&self.path)).collect();
        format!("[{}]", members.join(","))
    }
}

fn below<'p>(base: &str, path: &'p str) -> &'p str {
    let rest = path.strip_prefix(base).unwrap_or(path);
    rest.strip_prefix('.').unwrap_or(rest)
}

/// The tests of a field as a list, each once.
pub(crate) fn tests_to_json(tests: &[Test]) -> String {
    let mut items: Vec<String> = tests.iter().map(Test::to_json).collect();
    items.sort();
    items.dedup();
    format!("[{}]", items.join(","))
}
