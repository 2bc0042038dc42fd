//! What the index asks of a value at one path, beyond whether it is equal to something.

use smallvec::SmallVec;

use super::{
    atoms::{Atom, AtomId, Predicate},
    intervals::Intervals,
    trie::Trie,
};
use crate::{
    test::{Test, Value, address_of},
    text::{STAR, fold},
};

/// The access predicates of one path, by the structure that finds those that a value satisfies.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathIndex {
    /// How many want a text whatever its case; the table of atoms finds them.
    folded: u32,
    forward: Trie,
    /// Suffixes and wildcards with a fixed end, from their last byte to their first.
    backward: Trie,
    folded_forward: Trie,
    folded_backward: Trie,
    numbers: Intervals,
    addresses: Intervals,
    /// The rest, looked at one by one.
    others: Vec<AtomId>,
}

/// Memory for folded and for reversed texts.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    folded: String,
    reversed: Vec<u8>,
}

/// Where an access predicate is kept.
enum Place<'p> {
    /// In the table of atoms.
    Equal,
    Folded,
    Trie(&'p mut Trie, Vec<u8>),
    Intervals(&'p mut Intervals, SmallVec<[(u128, u128); 2]>),
    Other,
}

impl PathIndex {
    pub(crate) fn insert(&mut self, id: AtomId, predicate: &Predicate) {
        match self.place(predicate) {
            Place::Equal => {}
            Place::Folded => self.folded += 1,
            Place::Trie(trie, symbols) => trie.insert(symbols, id),
            Place::Intervals(intervals, ranges) => {
                ranges.iter().for_each(|&(low, high)| intervals.insert(low, high, id))
            }
            Place::Other => self.others.push(id),
        }
    }

    pub(crate) fn remove(&mut self, id: AtomId, predicate: &Predicate) {
        match self.place(predicate) {
            Place::Equal => {}
            Place::Folded => self.folded -= 1,
            Place::Trie(trie, symbols) => trie.remove(&symbols, id),
            Place::Intervals(intervals, ranges) => ranges.iter().for_each(|&(low, _)| intervals.remove(low, id)),
            Place::Other => self.others.retain(|other| *other != id),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.folded == 0
            && [&self.forward, &self.backward, &self.folded_forward, &self.folded_backward]
                .iter()
                .all(|trie| trie.is_empty())
            && self.numbers.is_empty()
            && self.addresses.is_empty()
            && self.others.is_empty()
    }

    fn place(&mut self, predicate: &Predicate) -> Place<'_> {
        let Predicate::One(test) = predicate else { return Place::Other };
        match test {
            Test::TextFolded(_) => Place::Folded,
            Test::Prefix(text) => Place::Trie(&mut self.forward, prefix(text.bytes())),
            Test::PrefixFolded(text) => Place::Trie(&mut self.folded_forward, prefix(text.bytes())),
            Test::Suffix(text) => Place::Trie(&mut self.backward, prefix(text.bytes().rev())),
            Test::SuffixFolded(text) => Place::Trie(&mut self.folded_backward, prefix(text.bytes().rev())),
            Test::Wildcard(wildcard) => match wildcard.symbols() {
                [STAR, .., last] if *last != STAR => {
                    Place::Trie(&mut self.backward, wildcard.symbols().iter().rev().copied().collect())
                }
                symbols => Place::Trie(&mut self.forward, symbols.to_vec()),
            },
            Test::Numeric(bounds) => Place::Intervals(&mut self.numbers, [bounds.closed()].into_iter().collect()),
            Test::Cidr(network) => Place::Intervals(&mut self.addresses, network.ranges().collect()),
            _ if predicate.is_equality() => Place::Equal,
            _ => Place::Other,
        }
    }

    /// Whether the table of atoms is to be asked for the folded text.
    pub(crate) fn wants_folded(&self) -> bool {
        self.folded > 0
    }

    /// Those to be looked at one by one.
    pub(crate) fn others(&self) -> &[AtomId] {
        &self.others
    }

    /// Names the access predicates that the value satisfies, but for [`PathIndex::others`] and those in the table of atoms;
    /// some perhaps more than once. Gives the folded text where it is wanted.
    pub(crate) fn run<'b>(
        &self,
        value: Value<'_>,
        buffers: &'b mut Buffers,
        found: &mut impl FnMut(AtomId),
    ) -> Option<&'b str> {
        let text = match value {
            Value::Text(text) => text,
            Value::Number(number) => {
                self.numbers.holding(number.bits(), found);
                return None;
            }
            _ => return None,
        };
        self.forward.run(text.as_bytes(), found);
        run_backward(&self.backward, text, &mut buffers.reversed, found);
        if !self.addresses.is_empty()
            && let Some(address) = address_of(text)
        {
            self.addresses.holding(address, &mut *found);
        }
        if self.folded == 0 && self.folded_forward.is_empty() && self.folded_backward.is_empty() {
            return None;
        }
        buffers.folded.clear();
        fold(text, &mut buffers.folded);
        self.folded_forward.run(buffers.folded.as_bytes(), found);
        run_backward(&self.folded_backward, &buffers.folded, &mut buffers.reversed, found);
        Some(&buffers.folded)
    }
}

fn run_backward(trie: &Trie, text: &str, reversed: &mut Vec<u8>, found: &mut impl FnMut(AtomId)) {
    if !trie.is_empty() {
        reversed.clear();
        reversed.extend(text.bytes().rev());
        trie.run(reversed, found);
    }
}

fn prefix(bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    bytes.chain([STAR]).collect()
}

/// How much of the events an access predicate is guessed to let through, beside how many rules share it.
pub(crate) fn breadth(atom: &Atom) -> f32 {
    let Predicate::One(test) = &atom.predicate else { return 0.95 };
    let by_length = |text: &str| if text.len() < 3 { 0.1 } else { 0.005 };
    match test {
        Test::Text(_) | Test::Number(_) | Test::TextFolded(_) => 0.0,
        Test::True | Test::False | Test::Null => 0.3,
        Test::Prefix(text) | Test::Suffix(text) | Test::PrefixFolded(text) | Test::SuffixFolded(text) => {
            by_length(text)
        }
        Test::Cidr(network) => {
            0.01 + 1.0 / ((network.first ^ network.last).leading_zeros().saturating_sub(95)).max(1) as f32
        }
        Test::Wildcard(wildcard) => {
            if wildcard.symbols().len() < 5 {
                0.3
            } else {
                0.03
            }
        }
        Test::Numeric(bounds) => {
            if bounds.low.is_some() && bounds.high.is_some() {
                0.1
            } else {
                0.5
            }
        }
        _ => 0.95,
    }
}
