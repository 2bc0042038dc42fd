//! The compiled index of all rules: what an event costs hardly depends on how many there are.
//!
//! A rule is one alternative of a pattern: conditions that must all hold, each on one path. One of them, the one that the
//! fewest events are expected to satisfy, is its *access predicate*: only when that is satisfied is the rule looked at.
//! Predicates are *atoms*, kept once however many rules share them. Atoms that want an exact value are found by hashing the
//! path and the value; prefixes, suffixes and wildcards by one automaton a path and direction; ranges by a tree of
//! intervals. What remains of a rule is checked by comparing numbers of atoms, or evaluated once an event.
//!
//! Everything is in persistent structures: a clone is a snapshot, and an insert copies the few pages it changes.

pub(crate) mod atoms;
mod intervals;
mod matching;
pub(crate) mod pages;
mod path_index;
mod restore;
pub(crate) mod table;
mod trie;

use std::{
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use atoms::{AtomId, Atoms, Group, Posting, Predicate};
pub(crate) use matching::Work;
use pages::Pages;
pub(crate) use path_index::PathIndex;
use table::Table;

use crate::{
    Pattern,
    paths::{NONE, PathId, Paths},
    pattern::Condition,
    test::Test,
    text::STAR,
};

/// The index.
#[derive(Debug, Clone)]
pub(crate) struct Index<Id> {
    paths: Paths,
    atoms: Atoms,
    rules: Pages<Option<Rule<Id>>>,
    free: Pages<u32>,
    /// From an id to the first of its rules.
    ids: Table,
    count: usize,
    /// Rules that have nothing but conditions of absence: looked at for every event.
    always: Pages<u32>,
}

/// One alternative of a pattern of an id.
#[derive(Debug, Clone)]
struct Rule<Id> {
    id: Id,
    /// The first rule of the same id; its number stands for the id.
    head: u32,
    /// The next rule of the same id, or [`NONE`].
    next: u32,
    /// Which of the checks holds the access predicate, or [`ALWAYS`].
    access: u32,
    checks: SmallVec<[Check; 3]>,
}

const ALWAYS: u32 = u32::MAX;

/// One condition of a rule.
#[derive(Debug, Clone, Copy)]
struct Check {
    path: PathId,
    /// The atom that a value must satisfy; [`NONE`] if there must be no value. The topmost bit tells equality.
    atom: u32,
}

const EQUALITY: u32 = 1 << 31;

impl Check {
    fn is_absence(self) -> bool {
        self.atom == NONE
    }

    fn is_equality(self) -> bool {
        self.atom & EQUALITY != 0 && !self.is_absence()
    }

    fn atom(self) -> AtomId {
        self.atom & !EQUALITY
    }
}

impl<Id> Default for Index<Id> {
    fn default() -> Self {
        Self {
            paths: Paths::default(),
            atoms: Atoms::default(),
            rules: Pages::default(),
            free: Pages::default(),
            ids: Table::default(),
            count: 0,
            always: Pages::default(),
        }
    }
}

impl<Id: Copy + Eq + Hash> Index<Id> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn insert(&mut self, id: Id, pattern: &Pattern) {
        let mut head = self.head(&id);
        for conditions in pattern.compiled().alternatives() {
            let checks: SmallVec<[Check; 3]> = conditions.map(|condition| self.check(condition)).collect();
            let access = self.best_access(&checks);
            let slot = self.place();
            let next = match head {
                Some(head) => std::mem::replace(&mut self.rule_mut(head).next, slot),
                None => NONE,
            };
            *self.rules.get_mut(slot as usize) = Some(Rule { id, head: head.unwrap_or(slot), next, access, checks });
            if head.is_none() {
                head = Some(slot);
                self.count += 1;
                self.ids.insert(hash_id(&id), slot);
            }
            self.attach(slot);
            self.rebalance(slot);
        }
    }

    pub(crate) fn remove(&mut self, id: &Id) -> bool {
        let Some(head) = self.head(id) else { return false };
        self.ids.remove(hash_id(id), head);
        self.count -= 1;
        let mut slot = head;
        while slot != NONE {
            self.detach(slot);
            self.free.push(slot);
            let Some(rule) = self.rules.get_mut(slot as usize).take() else { break };
            self.rules.release(slot as usize, Option::is_none);
            for check in rule.checks {
                if !check.is_absence() {
                    self.release(check.atom());
                }
                self.paths.release(check.path);
            }
            slot = rule.next;
        }
        if self.count == 0 {
            *self = Self::default();
        }
        true
    }

    fn head(&self, id: &Id) -> Option<u32> {
        self.ids.find(hash_id(id), |slot| self.rule(slot).is_some_and(|rule| rule.id == *id))
    }

    fn rule(&self, slot: u32) -> Option<&Rule<Id>> {
        self.rules.get(slot as usize).as_ref()
    }

    fn rule_mut(&mut self, slot: u32) -> &mut Rule<Id> {
        self.rules.get_mut(slot as usize).as_mut().expect("only slots of live rules are asked for")
    }

    fn place(&mut self) -> u32 {
        match self.free.len() {
            0 => {
                self.rules.push(None);
                self.rules.len() as u32 - 1
            }
            free => {
                let slot = *self.free.get(free - 1);
                self.free.swap_remove(free - 1);
                self.rules.restore(slot as usize);
                slot
            }
        }
    }

    /// A condition with its predicate as an atom.
    fn check(&mut self, condition: &Condition) -> Check {
        let path = self.paths.add(&condition.path);
        let atom = match condition.tests.as_slice() {
            [] => NONE,
            [test] => self.atom(path, test),
            tests => {
                let group = self.group(path, tests);
                self.add(path, Predicate::Any(group))
            }
        };
        let is_equality = atom != NONE && self.atoms.get(atom).predicate.is_equality();
        Check { path, atom: if is_equality { atom | EQUALITY } else { atom } }
    }

    fn atom(&mut self, path: PathId, test: &Test) -> AtomId {
        let predicate = match test {
            Test::Not(tests) => Predicate::NoneOf(self.group(path, tests)),
            Test::Wildcard(_) => Predicate::One(simplified(test)),
            _ => Predicate::One(test.clone()),
        };
        self.add(path, predicate)
    }

    fn group(&mut self, path: PathId, tests: &[Test]) -> Box<Group> {
        let mut atoms: Vec<AtomId> = tests.iter().map(|test| self.atom(path, test)).collect();
        atoms.sort_unstable();
        for index in (1..atoms.len()).rev() {
            if atoms[index] == atoms[index - 1] {
                self.atoms.release(atoms.remove(index));
            }
        }
        let (equal, others): (Vec<_>, Vec<_>) =
            atoms.into_iter().partition(|&atom| self.atoms.get(atom).predicate.is_equality());
        Box::new(Group { equal: equal.into(), others: others.into() })
    }

    /// The atom of a predicate. If it is known already, the uses that its members just got are given back.
    fn add(&mut self, path: PathId, predicate: Predicate) -> AtomId {
        let members: Vec<AtomId> = match &predicate {
            Predicate::One(_) => Vec::new(),
            Predicate::Any(group) | Predicate::NoneOf(group) => group.members().collect(),
        };
        let is_equality = predicate.is_equality();
        let (atom, is_new) = self.atoms.add(path, predicate);
        if !is_new {
            members.into_iter().for_each(|member| self.release(member));
        } else if is_equality {
            self.paths.node_mut(path).equalities += 1;
        }
        atom
    }

    fn release(&mut self, atom: AtomId) {
        let Some(atom) = self.atoms.release(atom) else { return };
        if atom.predicate.is_equality() {
            self.paths.node_mut(atom.path).equalities -= 1;
        }
        if let Predicate::Any(group) | Predicate::NoneOf(group) = atom.predicate {
            group.members().for_each(|member| self.release(member));
        }
    }

    /// The check that the fewest events are expected to satisfy; of equals the last.
    fn best_access(&self, checks: &[Check]) -> u32 {
        let scored = checks.iter().enumerate().filter(|(_, check)| !check.is_absence());
        let best = scored
            .map(|(at, &check)| (self.score(check), at))
            .min_by(|one, other| one.0.total_cmp(&other.0).then(other.1.cmp(&one.1)));
        best.map_or(ALWAYS, |(_, at)| at as u32)
    }

    /// A guess of which part of the events satisfies the check: that which the rules at hand suggest, in which a value that
    /// many rules want is taken for frequent.
    fn score(&self, check: Check) -> f32 {
        let all = self.paths.node(check.path).uses as f32 + 16.0;
        let one = |atom: AtomId| {
            let atom = self.atoms.get(atom);
            path_index::breadth(atom) + atom.uses as f32 / all
        };
        match &self.atoms.get(check.atom()).predicate {
            Predicate::Any(group) => group.members().map(one).sum(),
            _ => one(check.atom()),
        }
    }

    /// The atoms under which a rule is found.
    fn access_atoms(&self, slot: u32) -> SmallVec<[AtomId; 4]> {
        let Some(rule) = self.rule(slot) else { return SmallVec::new() };
        let Some(check) = rule.checks.get(rule.access as usize) else { return SmallVec::new() };
        match &self.atoms.get(check.atom()).predicate {
            Predicate::Any(group) => group.members().collect(),
            _ => SmallVec::from_slice(&[check.atom()]),
        }
    }

    /// Beside the access predicate, the rarest equality of a rule.
    fn guard(&self, slot: u32) -> AtomId {
        let Some(rule) = self.rule(slot) else { return NONE };
        let others =
            rule.checks.iter().enumerate().filter(|(at, check)| *at != rule.access as usize && check.is_equality());
        let scored = others.map(|(_, &check)| (self.score(check), check.atom()));
        scored.min_by(|one, other| one.0.total_cmp(&other.0)).map_or(NONE, |(_, atom)| atom)
    }

    fn attach(&mut self, slot: u32) {
        let (atoms, guard) = (self.access_atoms(slot), self.guard(slot));
        if atoms.is_empty() {
            self.always.push(slot);
        }
        for id in atoms {
            let atom = self.atoms.get_mut(id);
            atom.postings.add(Posting { rule: slot, guard });
            if atom.postings.len() == 1 && !atom.predicate.is_equality() {
                let node = self.paths.node_mut(atom.path);
                Arc::make_mut(node.index.get_or_insert_default()).insert(id, &atom.predicate);
            }
        }
    }

    fn detach(&mut self, slot: u32) {
        let atoms = self.access_atoms(slot);
        if atoms.is_empty() {
            self.always.remove_first(|&other| other == slot);
        }
        for id in atoms {
            let atom = self.atoms.get_mut(id);
            atom.postings.remove(slot);
            if atom.postings.len() == 0 && !atom.predicate.is_equality() {
                let node = self.paths.node_mut(atom.path);
                if let Some(index) = &mut node.index {
                    Arc::make_mut(index).remove(id, &atom.predicate);
                }
                node.index.take_if(|index| index.is_empty());
            }
        }
    }

    /// A predicate that was rare when rules chose it may have become common. Each time that the rules under one have
    /// doubled, those that have a clearly better one by now move there.
    fn rebalance(&mut self, slot: u32) {
        for id in self.access_atoms(slot) {
            let postings = &self.atoms.get(id).postings;
            if postings.len() < 16 || !postings.len().is_power_of_two() {
                continue;
            }
            for slot in postings.iter().map(|posting| posting.rule).collect::<Vec<_>>() {
                let Some(rule) = self.rule(slot) else { continue };
                let best = self.best_access(&rule.checks);
                let score = |access: u32| self.score(rule.checks[access as usize]);
                if score(best) * 2.0 < score(rule.access) {
                    self.detach(slot);
                    self.rule_mut(slot).access = best;
                    self.attach(slot);
                }
            }
        }
    }
}

fn hash_id<Id: Hash>(id: &Id) -> u64 {
    FxBuildHasher.hash_one(id)
}

/// A wildcard that says no more than an exact text, a prefix or a suffix becomes that.
fn simplified(test: &Test) -> Test {
    let Test::Wildcard(wildcard) = test else { return test.clone() };
    let text = |symbols: &[u8]| String::from_utf8_lossy(symbols).into_owned().into_boxed_str();
    let is_plain = |symbols: &[u8]| !symbols.contains(&STAR);
    match wildcard.symbols() {
        symbols if is_plain(symbols) => Test::Text(text(symbols)),
        [symbols @ .., STAR] if is_plain(symbols) => Test::Prefix(text(symbols)),
        [STAR, symbols @ ..] if is_plain(symbols) => Test::Suffix(text(symbols)),
        _ => test.clone(),
    }
}
