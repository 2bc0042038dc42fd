//! From the index back to patterns, so that explaining needs no second copy of every rule.

use std::hash::Hash;

use super::{Check, Index, Rule, atoms::Predicate};
use crate::{
    Limits, Pattern,
    paths::NONE,
    pattern::{All, Field, Or},
    test::Test,
};

/// What is in the index was within limits when it was read.
const NO_LIMITS: Limits = Limits {
    depth: usize::MAX,
    predicates: usize::MAX,
    alternatives: usize::MAX >> 8,
    wildcard_complexity: usize::MAX,
};

impl<Id: Copy + Eq + Hash> Index<Id> {
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> {
        let head = |(slot, rule): (usize, &Option<Rule<Id>>)| {
            rule.as_ref().filter(|rule| rule.head as usize == slot).map(|rule| rule.id)
        };
        self.rules.iter_kept().filter_map(head)
    }

    /// What was inserted under the id, its alternatives side by side.
    pub(crate) fn pattern(&self, id: &Id) -> Option<Pattern> {
        let head = self.rule(self.head(id)?)?;
        let next = |rule: &Rule<Id>| if rule.next == NONE { None } else { self.rule(rule.next) };
        let rest = std::iter::successors(next(head), |rule| next(rule));
        let mut alternatives: Vec<All> = rest.map(|rule| self.all(rule)).collect();
        // Behind the first rule of an id stand the others, the latest first.
        alternatives.push(self.all(head));
        alternatives.reverse();
        let all = match alternatives.len() {
            1 => alternatives.pop()?,
            _ => All { fields: Vec::new(), ors: vec![Or { path: String::new(), members: alternatives }] },
        };
        Pattern::of(all, &NO_LIMITS).ok()
    }

    fn all(&self, rule: &Rule<Id>) -> All {
        let field = |&check: &Check| Field { path: self.paths.path(check.path), tests: self.tests(check) };
        All { fields: rule.checks.iter().map(field).collect(), ors: Vec::new() }
    }

    fn tests(&self, check: Check) -> Vec<Test> {
        if check.is_absence() {
            return vec![Test::Absent];
        }
        match &self.atoms.get(check.atom()).predicate {
            Predicate::Any(group) => group.members().map(|atom| self.test(&self.atoms.get(atom).predicate)).collect(),
            other => vec![self.test(other)],
        }
    }

    fn test(&self, predicate: &Predicate) -> Test {
        match predicate {
            Predicate::One(test) => test.clone(),
            Predicate::Any(group) | Predicate::NoneOf(group) => {
                Test::Not(group.members().map(|atom| self.test(&self.atoms.get(atom).predicate)).collect())
            }
        }
    }
}
