//! Matching one event against the index.

use std::hash::Hash;

use super::{
    Check, Index,
    atoms::{AtomId, Group, Predicate},
    path_index::Buffers,
};
use crate::{
    Attributes, Scratch, arrays,
    input::Source,
    paths::PathId,
    test::Value,
    view::{Found, Outcome, TrailId, View},
};

/// Memory for matching with an index, kept from event to event.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// The number of the event: notes of another event do not count.
    event: u32,
    atoms: Vec<Note>,
    /// Of the first rule of each id, in which event it was last given out.
    given: Vec<u32>,
    /// The atoms that the event satisfies and that rules are found under.
    hits: Vec<AtomId>,
    buffers: Buffers,
}

/// What is known of an atom in this event.
#[derive(Debug, Clone, Copy, Default)]
struct Note {
    event: u32,
    is_hit: bool,
    outcome: Option<Outcome>,
}

/// Notes of so few atoms and rules are never given back.
const KEPT: usize = 1024;

impl Work {
    fn begin(&mut self, event: u32, atoms: usize, rules: usize) {
        if event < self.event {
            // The numbers of events have wrapped around.
            self.atoms.clear();
            self.given.clear();
        }
        self.event = event;
        // One huge set does not hold on to its memory for long.
        if self.atoms.len() / 8 > atoms + KEPT {
            self.atoms = Vec::new();
        }
        if self.given.len() / 8 > rules + KEPT {
            self.given = Vec::new();
        }
        if self.atoms.len() < atoms {
            self.atoms.resize(atoms, Note::default());
        }
        if self.given.len() < rules {
            self.given.resize(rules, 0);
        }
        self.hits.clear();
    }

    /// Whether the guard of a rule is satisfied, if it has one.
    #[inline]
    fn may_hold(&self, guard: AtomId) -> bool {
        self.atoms.get(guard as usize).is_none_or(|note| note.event == self.event && note.is_hit)
    }

    #[inline]
    fn note(&mut self, atom: AtomId) -> &mut Note {
        let note = &mut self.atoms[atom as usize];
        if note.event != self.event {
            *note = Note { event: self.event, is_hit: false, outcome: None };
        }
        note
    }
}

impl<Id: Copy + Eq + Hash> Index<Id> {
    pub(crate) fn matches(
        &self,
        attributes: &dyn Attributes,
        source: Source<'_>,
        Scratch { view, work }: &mut Scratch,
        out: &mut Vec<Id>,
    ) {
        let data = view.read(&self.paths, attributes, source);
        work.begin(view.event(), self.atoms.bound(), self.rules.len());
        for index in 0..view.touched().len() {
            let path = view.touched()[index];
            self.probe(path, view, data, work);
        }
        for index in 0..work.hits.len() {
            for posting in self.atoms.get(work.hits[index]).postings.iter() {
                if work.may_hold(posting.guard) {
                    self.candidate(posting.rule, view, data, work, out);
                }
            }
        }
        for &slot in self.always.iter() {
            self.candidate(slot, view, data, work, out);
        }
    }

    /// Finds the atoms that the values at a path satisfy.
    fn probe(&self, path: PathId, view: &mut View, data: &str, work: &mut Work) {
        let node = self.paths.node(path);
        let mut at = view.first(path);
        while let Some(found) = view.found(at) {
            let mut found = *found;
            let value = view.value(&found, data);
            if node.equalities > 0
                && let Some(atom) = self.atoms.wanting(path, value)
            {
                self.hit(atom, work);
                found.equal = atom;
            }
            if let Some(index) = &node.index {
                let mut buffers = std::mem::take(&mut work.buffers);
                let folded = index.run(value, &mut buffers, &mut |atom| self.hit(atom, work));
                if let Some(folded) = folded.filter(|_| index.wants_folded())
                    && let Some(atom) = self.atoms.wanting_folded(path, folded)
                {
                    self.hit(atom, work);
                }
                work.buffers = buffers;
                for &atom in index.others() {
                    if self.is_satisfied(&self.atoms.get(atom).predicate, &found, value) {
                        self.hit(atom, work);
                    }
                }
            }
            view.set_equal(at, found.equal);
            at = found.next;
        }
    }

    #[inline]
    fn hit(&self, atom: AtomId, work: &mut Work) {
        let note = work.note(atom);
        if !note.is_hit {
            note.is_hit = true;
            work.hits.push(atom);
        }
    }

    /// Looks at a rule whose access predicate is satisfied.
    fn candidate(&self, slot: u32, view: &View, data: &str, work: &mut Work, out: &mut Vec<Id>) {
        let Some(rule) = self.rule(slot) else { return };
        let mut is_plain = true;
        for &check in &rule.checks {
            match self.outcome(check, view, data, work) {
                Outcome::Fails => return,
                Outcome::Holds => {}
                Outcome::InArrays => is_plain = false,
            }
        }
        let given = &mut work.given[rule.head as usize];
        if *given != work.event && (is_plain || self.agree(&rule.checks, view, data)) {
            *given = work.event;
            out.push(rule.id);
        }
    }

    #[inline]
    fn outcome(&self, check: Check, view: &View, data: &str, work: &mut Work) -> Outcome {
        if check.is_absence() {
            return view.presence(check.path, |_| true).negated();
        }
        if check.is_equality() {
            let atom = check.atom();
            return view.presence(check.path, |found| found.equal == atom);
        }
        if let Some(outcome) = work.note(check.atom()).outcome {
            return outcome;
        }
        let predicate = &self.atoms.get(check.atom()).predicate;
        let outcome = view.presence(check.path, |found| self.is_satisfied(predicate, found, view.value(found, data)));
        work.note(check.atom()).outcome = Some(outcome);
        outcome
    }

    fn is_satisfied(&self, predicate: &Predicate, found: &Found, value: Value<'_>) -> bool {
        match predicate {
            Predicate::One(test) => test.is_satisfied_by(value),
            Predicate::Any(group) => self.any(group, found, value),
            Predicate::NoneOf(group) => !self.any(group, found, value),
        }
    }

    fn any(&self, group: &Group, found: &Found, value: Value<'_>) -> bool {
        group.equal.binary_search(&found.equal).is_ok()
            || group.others.iter().any(|&atom| self.is_satisfied(&self.atoms.get(atom).predicate, found, value))
    }

    /// Whether all checks hold in one and the same element of every array.
    fn agree(&self, checks: &[Check], view: &View, data: &str) -> bool {
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for &check in checks {
            let trails = |is_wanted: &dyn Fn(&Found) -> bool| -> Vec<TrailId> {
                view.values(check.path).filter(|found| is_wanted(found)).map(|found| found.trail).collect()
            };
            if check.is_absence() {
                absent.push(trails(&|_| true));
            } else if check.is_equality() {
                present.push(trails(&|found| found.equal == check.atom()));
            } else {
                let predicate = &self.atoms.get(check.atom()).predicate;
                present.push(trails(&|found| self.is_satisfied(predicate, found, view.value(found, data))));
            }
        }
        arrays::agree(view, &present, &absent)
    }
}
