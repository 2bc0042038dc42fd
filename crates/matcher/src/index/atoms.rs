//! The predicates of all rules, each kept once however many rules share it.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::{pages::Pages, table::Table};
use crate::{
    paths::PathId,
    test::{Test, Value},
};

/// The number of an atom.
pub(crate) type AtomId = u32;

/// A predicate on one path, and the rules that are looked at when it is satisfied.
#[derive(Debug, Clone)]
pub(crate) struct Atom {
    pub(crate) path: PathId,
    /// How many rules and groups name it.
    pub(crate) uses: u32,
    pub(crate) predicate: Predicate,
    pub(crate) postings: Postings,
}

/// What is asked of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Predicate {
    /// One test that is not made of others.
    One(Test),
    /// One of these.
    Any(Box<Group>),
    /// None of these.
    NoneOf(Box<Group>),
}

/// Atoms of one path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    /// Those that want equality, in order: at most one of them is satisfied.
    pub(crate) equal: Box<[AtomId]>,
    pub(crate) others: Box<[AtomId]>,
}

impl Group {
    pub(crate) fn members(&self) -> impl Iterator<Item = AtomId> {
        self.equal.iter().chain(&self.others).copied()
    }
}

/// A rule under its access predicate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Posting {
    /// The number of its slot.
    pub(crate) rule: u32,
    /// An atom of equality that must be satisfied too, or [`crate::paths::NONE`]: spares most looks at the rule itself.
    pub(crate) guard: AtomId,
}

/// The rules whose access predicate an atom is.
#[derive(Debug, Clone, Default)]
pub(crate) enum Postings {
    #[default]
    None,
    One(Posting),
    Many(Box<Pages<Posting>>),
}

impl Postings {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(postings) => postings.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Posting> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(posting) => (Some(*posting), None),
            Self::Many(postings) => (None, Some(postings.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(crate) fn add(&mut self, posting: Posting) {
        match self {
            Self::None => *self = Self::One(posting),
            Self::One(first) => *self = Self::Many(Box::new([*first, posting].into_iter().collect())),
            Self::Many(postings) => postings.push(posting),
        }
    }

    pub(crate) fn remove(&mut self, rule: u32) {
        match self {
            Self::One(only) if only.rule == rule => *self = Self::None,
            Self::Many(postings) => {
                postings.remove_first(|posting| posting.rule == rule);
                if postings.len() == 1 {
                    *self = Self::One(*postings.get(0));
                }
            }
            _ => {}
        }
    }
}

impl Default for Atom {
    fn default() -> Self {
        Self { path: 0, uses: 0, predicate: Predicate::One(Test::Exists), postings: Postings::None }
    }
}

/// All atoms, found by their predicate and by the value that they want.
#[derive(Debug, Clone, Default)]
pub(crate) struct Atoms {
    slots: Pages<Atom>,
    table: Table,
    free: Pages<u32>,
}

impl Atoms {
    /// One more than the highest number of an atom.
    pub(crate) fn bound(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(crate) fn get(&self, id: AtomId) -> &Atom {
        self.slots.get(id as usize)
    }

    pub(crate) fn get_mut(&mut self, id: AtomId) -> &mut Atom {
        self.slots.get_mut(id as usize)
    }

    /// The atom that wants exactly this value at this path.
    #[inline]
    pub(crate) fn wanting(&self, path: PathId, value: Value<'_>) -> Option<AtomId> {
        self.table.find(hash_value(path, value), |id| {
            let atom = self.get(id);
            atom.path == path
                && match (&atom.predicate, value) {
                    (Predicate::One(Test::Text(wanted)), Value::Text(seen)) => **wanted == *seen,
                    (Predicate::One(Test::Number(wanted)), Value::Number(seen)) => *wanted == seen,
                    (Predicate::One(Test::Null), Value::Null)
                    | (Predicate::One(Test::True), Value::True)
                    | (Predicate::One(Test::False), Value::False) => true,
                    _ => false,
                }
        })
    }

    /// The atom that wants this folded text at this path.
    pub(crate) fn wanting_folded(&self, path: PathId, folded: &str) -> Option<AtomId> {
        self.table.find(hash_text(path, FOLDED, folded), |id| {
            let atom = self.get(id);
            atom.path == path
                && matches!(&atom.predicate, Predicate::One(Test::TextFolded(wanted)) if **wanted == *folded)
        })
    }

    /// The atom of this predicate with one more use, and whether it is new.
    pub(crate) fn add(&mut self, path: PathId, predicate: Predicate) -> (AtomId, bool) {
        let hash = hash_predicate(path, &predicate);
        let known = self.table.find(hash, |id| self.get(id).path == path && self.get(id).predicate == predicate);
        if let Some(id) = known {
            self.get_mut(id).uses += 1;
            return (id, false);
        }
        let atom = Atom { path, uses: 1, predicate, postings: Postings::None };
        let id = match self.free.len() {
            0 => {
                self.slots.push(atom);
                self.slots.len() as u32 - 1
            }
            free => {
                let id = *self.free.get(free - 1);
                self.free.swap_remove(free - 1);
                self.slots.restore(id as usize);
                *self.get_mut(id) = atom;
                id
            }
        };
        self.table.insert(hash, id);
        (id, true)
    }

    /// Takes one use back. The last one takes the atom along, which is given back.
    pub(crate) fn release(&mut self, id: AtomId) -> Option<Atom> {
        let atom = self.get_mut(id);
        atom.uses -= 1;
        if atom.uses > 0 {
            return None;
        }
        let atom = std::mem::take(atom);
        self.table.remove(hash_predicate(atom.path, &atom.predicate), id);
        self.free.push(id);
        self.slots.release(id as usize, |atom| atom.uses == 0);
        Some(atom)
    }
}

impl Predicate {
    /// Whether it wants one exact value: such an atom is found by the value.
    pub(crate) fn is_equality(&self) -> bool {
        let Predicate::One(test) = self else { return false };
        matches!(test, Test::Null | Test::True | Test::False | Test::Number(_) | Test::Text(_))
    }
}

const FOLDED: u32 = 1;

#[inline]
fn hash_value(path: PathId, value: Value<'_>) -> u64 {
    match value {
        Value::Text(text) => hash_text(path, 0, text),
        Value::Number(number) => {
            let mut hasher = FxHasher::default();
            number.hash(&mut hasher);
            hasher.write_u32(path);
            hasher.finish()
        }
        Value::True => hash_text(path, 2, "true"),
        Value::False => hash_text(path, 2, "false"),
        Value::Null => hash_text(path, 2, "null"),
    }
}

#[inline]
fn hash_text(path: PathId, kind: u32, text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    hasher.write_u64(u64::from(path) << 32 | u64::from(kind));
    hasher.finish()
}

fn hash_predicate(path: PathId, predicate: &Predicate) -> u64 {
    match predicate {
        Predicate::One(Test::Text(text)) => hash_value(path, Value::Text(text)),
        Predicate::One(Test::Number(number)) => hash_value(path, Value::Number(*number)),
        Predicate::One(Test::True) => hash_value(path, Value::True),
        Predicate::One(Test::False) => hash_value(path, Value::False),
        Predicate::One(Test::Null) => hash_value(path, Value::Null),
        Predicate::One(Test::TextFolded(text)) => hash_text(path, FOLDED, text),
        other => {
            let mut hasher = FxHasher::default();
            other.hash(&mut hasher);
            hasher.write_u32(path);
            hasher.finish()
        }
    }
}
