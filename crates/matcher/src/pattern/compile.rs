//! From the pattern as written to alternatives without `$or`, and their evaluation one by one.

use super::{All, Limits, PatternError};
use crate::{
    Attributes, Scratch, arrays,
    input::Source,
    paths::{PathId, Paths},
    test::{Test, Value},
    view::{Outcome, TrailId, View},
};

/// A pattern as a choice of conjunctions.
#[derive(Debug)]
pub(crate) struct Compiled {
    paths: Paths,
    conditions: Vec<Condition>,
    /// Of each alternative, the conditions that must all hold, as numbers in `conditions`.
    alternatives: Vec<Box<[u32]>>,
}

/// A path and what must be there: a value that satisfies one of the tests, or nothing.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) path: String,
    path_id: PathId,
    /// Empty: there must be no value.
    pub(crate) tests: Vec<Test>,
}

impl Compiled {
    pub(super) fn new(all: &All, limits: &Limits) -> Result<Self, PatternError> {
        let mut compiled = Self { paths: Paths::default(), conditions: Vec::new(), alternatives: Vec::new() };
        compiled.alternatives = compiled.expand(all, limits)?.into_iter().map(Vec::into_boxed_slice).collect();
        Ok(compiled)
    }

    /// Each alternative as its conditions.
    pub(crate) fn alternatives(&self) -> impl Iterator<Item = impl Iterator<Item = &Condition>> {
        self.alternatives.iter().map(|numbers| numbers.iter().map(|&number| &self.conditions[number as usize]))
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.paths
    }

    pub(crate) fn matches(&self, attributes: &dyn Attributes, source: Source<'_>, scratch: &mut Scratch) -> bool {
        let data = scratch.view.read(&self.paths, attributes, source);
        let view = &scratch.view;
        self.alternatives.iter().any(|numbers| {
            let conditions = numbers.iter().map(|&number| &self.conditions[number as usize]);
            holds(view, data, conditions)
        })
    }

    fn expand(&mut self, all: &All, limits: &Limits) -> Result<Vec<Vec<u32>>, PatternError> {
        let mut alternatives = vec![Vec::new()];
        for field in &all.fields {
            let (absent, present): (Vec<_>, Vec<_>) = field.tests.iter().partition(|test| **test == Test::Absent);
            let mut choices = Vec::new();
            if !present.is_empty() {
                choices.push(vec![self.condition(&field.path, present.into_iter().cloned().collect())]);
            }
            if !absent.is_empty() {
                choices.push(vec![self.condition(&field.path, Vec::new())]);
            }
            alternatives = multiply(alternatives, &choices, limits, &field.path)?;
        }
        for or in &all.ors {
            let mut choices = Vec::new();
            for member in &or.members {
                choices.extend(self.expand(member, limits)?);
            }
            alternatives = multiply(alternatives, &choices, limits, &or.path)?;
        }
        Ok(alternatives)
    }

    fn condition(&mut self, path: &str, tests: Vec<Test>) -> u32 {
        let path_id = self.paths.add(path);
        self.conditions.push(Condition { path: path.to_owned(), path_id, tests });
        self.conditions.len() as u32 - 1
    }
}

/// Each of the alternatives with each of the choices.
fn multiply(
    alternatives: Vec<Vec<u32>>,
    choices: &[Vec<u32>],
    limits: &Limits,
    path: &str,
) -> Result<Vec<Vec<u32>>, PatternError> {
    let count = alternatives.len() * choices.len();
    let size: usize = alternatives.iter().map(Vec::len).sum::<usize>() * choices.len()
        + choices.iter().map(Vec::len).sum::<usize>() * alternatives.len();
    if count > limits.alternatives || size > limits.alternatives * 64 {
        let reason = format!(
            "too complex: the lists of `$or` (and of values beside `exists: false`) multiply to more than {} alternatives",
            limits.alternatives
        );
        return Err(PatternError { path: path.to_owned(), reason });
    }
    let join = |one: &Vec<u32>, other: &Vec<u32>| one.iter().chain(other).copied().collect();
    Ok(alternatives.iter().flat_map(|one| choices.iter().map(move |other| join(one, other))).collect())
}

/// Whether all conditions hold, in one and the same element of every array.
fn holds<'c>(view: &View, data: &str, conditions: impl Iterator<Item = &'c Condition> + Clone) -> bool {
    let mut is_plain = true;
    for condition in conditions.clone() {
        match condition.outcome(view, data) {
            Outcome::Fails => return false,
            Outcome::Holds => {}
            Outcome::InArrays => is_plain = false,
        }
    }
    if is_plain {
        return true;
    }
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    for condition in conditions {
        let list = if condition.tests.is_empty() { &mut absent } else { &mut present };
        list.push(condition.trails(view, data));
    }
    arrays::agree(view, &present, &absent)
}

impl Condition {
    fn outcome(&self, view: &View, data: &str) -> Outcome {
        if self.tests.is_empty() {
            return view.presence(self.path_id, |_| true).negated();
        }
        view.presence(self.path_id, |found| self.is_satisfied_by(view.value(found, data)))
    }

    /// The trails of the values that satisfy it, or of all where there must be none.
    fn trails(&self, view: &View, data: &str) -> Vec<TrailId> {
        view.values(self.path_id)
            .filter(|found| self.tests.is_empty() || self.is_satisfied_by(view.value(found, data)))
            .map(|found| found.trail)
            .collect()
    }

    fn is_satisfied_by(&self, value: Value<'_>) -> bool {
        self.tests.iter().any(|test| test.is_satisfied_by(value))
    }
}
