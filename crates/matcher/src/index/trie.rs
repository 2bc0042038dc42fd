//! The byte automaton of a path: prefixes and wildcards, all in one pass over a text.
//!
//! A tree over the bytes and stars of the patterns, in which bytes that follow each other without a choice are one node. It
//! is run without being made deterministic: from where a star was reached, the tree behind it is walked from each further
//! byte. A node is reached at most once at each place of the text, so that no text can make it explode. Near its leaves
//! the tree is not built: up to [`BUCKET`] patterns share a bucket, and are compared when a text reaches it.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::text::{STAR, matches_symbols};

/// More patterns than this in one place become a node with children.
const BUCKET: usize = 8;
/// Deeper than this the tree is not built; a bucket there may be of any size.
const DEPTH_MAX: usize = 256;

/// Patterns as symbols: bytes of UTF-8, and [`STAR`]. No two are equal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trie {
    root: Option<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Bucket(Arc<[Entry]>),
    Inner(Arc<Inner>),
}

#[derive(Debug, Clone)]
struct Entry {
    symbols: Arc<[u8]>,
    id: u32,
    /// In a bucket: the symbols that come next, filled up with stars. They spare most looks at the rest.
    head: [u8; HEAD],
}

const HEAD: usize = 4;

#[derive(Debug, Clone, Default)]
struct Inner {
    /// The bytes that all patterns here have next; what follows is about the place behind them.
    skip: Box<[u8]>,
    /// The pattern that ends here, if the text ends too.
    end: Option<u32>,
    /// The pattern of which only a star is left.
    any: Option<u32>,
    /// What follows after a star.
    star: Option<Node>,
    /// By the next byte: its place here is that of the child. Kept apart, so that seeking one touches little memory.
    bytes: SmallVec<[u8; 16]>,
    children: Vec<Node>,
}

impl Trie {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(crate) fn insert(&mut self, symbols: Vec<u8>, id: u32) {
        insert(&mut self.root, Entry { symbols: symbols.into(), id, head: [STAR; HEAD] }, 0);
    }

    pub(crate) fn remove(&mut self, symbols: &[u8], id: u32) {
        remove(&mut self.root, symbols, id, 0);
    }

    /// Names the patterns that match the text, some perhaps more than once.
    pub(crate) fn run(&self, text: &[u8], found: &mut impl FnMut(u32)) {
        let Some(root) = &self.root else { return };
        let mut run = Run { text, found, stars: SmallVec::new() };
        run.walk(root, 0, 0);
        let mut index = 0;
        while let Some(&(node, depth, from)) = run.stars.get(index) {
            run.walk_from_each(node, depth, from);
            index += 1;
        }
    }
}

/// The automaton on its way through a text.
struct Run<'t, F> {
    text: &'t [u8],
    found: &'t mut F,
    /// What stands behind each star that was reached, with how many symbols lead there, and from where on.
    stars: SmallVec<[(&'t Node, usize, usize); 8]>,
}

impl<'t, F: FnMut(u32)> Run<'t, F> {
    /// Walks from a node as far as the text fits; `depth` symbols fit it up to `at`.
    fn walk(&mut self, mut node: &'t Node, mut depth: usize, mut at: usize) {
        loop {
            let inner = match node {
                Node::Bucket(entries) => return self.compare(entries, depth, at),
                Node::Inner(inner) => inner,
            };
            if !self.text[at..].starts_with(&inner.skip) {
                return;
            }
            (depth, at) = (depth + inner.skip.len(), at + inner.skip.len());
            if let Some(id) = inner.any {
                (self.found)(id);
            }
            if let Some(star) = &inner.star {
                self.arrive_star(star, depth + 1, at);
            }
            let Some(byte) = self.text.get(at) else {
                if let Some(id) = inner.end {
                    (self.found)(id);
                }
                return;
            };
            let Some(child) = inner.child(*byte) else { return };
            (node, depth, at) = (child, depth + 1, at + 1);
        }
    }

    /// Walks from what is behind a star, from each place in the text where that may begin.
    fn walk_from_each(&mut self, node: &'t Node, depth: usize, from: usize) {
        let Node::Inner(inner) = node else { return };
        match inner.skip.first() {
            Some(&first) => {
                memchr::memchr_iter(first, &self.text[from..]).for_each(|at| self.walk(node, depth, from + at));
            }
            None => (from..self.text.len()).for_each(|at| self.walk(node, depth, at)),
        }
    }

    /// The first time that a star is reached is as good as all later ones.
    fn arrive_star(&mut self, node: &'t Node, depth: usize, at: usize) {
        if self.stars.iter().any(|(other, ..)| std::ptr::eq(*other, node)) {
            return;
        }
        self.stars.push((node, depth, at));
        if let Node::Bucket(entries) = node {
            // The star is compared with the rest, which may begin anywhere.
            entries.iter().for_each(|entry| self.compare_one(entry, depth - 1, at));
        }
    }

    fn compare(&mut self, entries: &[Entry], depth: usize, at: usize) {
        let rest = &self.text[at..];
        for entry in entries.iter().filter(|entry| entry.may_match(rest)) {
            self.compare_one(entry, depth, at);
        }
    }

    fn compare_one(&mut self, entry: &Entry, depth: usize, at: usize) {
        if matches_symbols(&entry.symbols[depth..], &self.text[at..]) {
            (self.found)(entry.id);
        }
    }
}

impl Entry {
    /// Makes it one of a bucket at this depth.
    fn at(mut self, depth: usize) -> Self {
        self.head = std::array::from_fn(|index| self.symbols.get(depth + index).copied().unwrap_or(STAR));
        self
    }

    /// Whether the text fits the next symbols, as far as they tell.
    #[inline]
    fn may_match(&self, text: &[u8]) -> bool {
        for (index, &symbol) in self.head.iter().enumerate() {
            if symbol == STAR {
                return true;
            }
            if text.get(index) != Some(&symbol) {
                return false;
            }
        }
        true
    }
}

impl Inner {
    #[inline]
    fn child(&self, byte: u8) -> Option<&Node> {
        Some(&self.children[self.place(byte)?])
    }

    #[inline]
    fn place(&self, byte: u8) -> Option<usize> {
        self.bytes.iter().position(|&other| other == byte)
    }

    fn add_child(&mut self, byte: u8, child: Node) {
        self.bytes.push(byte);
        self.children.push(child);
    }

    fn is_empty(&self) -> bool {
        self.end.is_none() && self.any.is_none() && self.star.is_none() && self.children.is_empty()
    }

    fn insert(&mut self, entry: Entry, depth: usize) {
        let same = common(&self.skip, &entry.symbols[depth..]);
        if same < self.skip.len() {
            // The ways part within these bytes.
            let (upper, byte) = (self.skip[..same].into(), self.skip[same]);
            let mut lower = std::mem::replace(self, Self { skip: upper, ..Self::default() });
            lower.skip = lower.skip[same + 1..].into();
            self.add_child(byte, Node::Inner(Arc::new(lower)));
        }
        let depth = depth + self.skip.len();
        match entry.symbols.get(depth) {
            None => self.end = Some(entry.id),
            Some(&STAR) if depth + 1 == entry.symbols.len() => self.any = Some(entry.id),
            Some(&STAR) => insert(&mut self.star, entry, depth + 1),
            Some(&byte) => match self.place(byte) {
                Some(at) => insert_at(&mut self.children[at], entry, depth + 1),
                None => self.add_child(byte, Node::Bucket([entry.at(depth + 1)].into())),
            },
        }
    }

    fn remove(&mut self, symbols: &[u8], id: u32, depth: usize) {
        let depth = depth + self.skip.len();
        match symbols.get(depth) {
            None => self.end = None,
            Some(&STAR) if depth + 1 == symbols.len() => self.any = None,
            Some(&STAR) => remove(&mut self.star, symbols, id, depth + 1),
            Some(&byte) => {
                let Some(at) = self.place(byte) else { return };
                if remove_at(&mut self.children[at], symbols, id, depth + 1) {
                    self.bytes.swap_remove(at);
                    self.children.swap_remove(at);
                    self.children.shrink_to_fit();
                }
            }
        }
    }
}

fn insert(link: &mut Option<Node>, entry: Entry, depth: usize) {
    match link {
        Some(node) => insert_at(node, entry, depth),
        None => *link = Some(Node::Bucket([entry.at(depth)].into())),
    }
}

fn insert_at(node: &mut Node, entry: Entry, depth: usize) {
    match node {
        Node::Inner(inner) => Arc::make_mut(inner).insert(entry, depth),
        Node::Bucket(entries) => {
            let more: Vec<Entry> = entries.iter().cloned().chain([entry.at(depth)]).collect();
            if more.len() > BUCKET && depth < DEPTH_MAX {
                let mut inner = Inner { skip: shared(&more, depth), ..Inner::default() };
                more.into_iter().for_each(|entry| inner.insert(entry, depth));
                *node = Node::Inner(Arc::new(inner));
            } else {
                *entries = more.into();
            }
        }
    }
}

/// The bytes that all the patterns have next, as far as the tree may reach.
fn shared(entries: &[Entry], depth: usize) -> Box<[u8]> {
    let first = &entries[0].symbols[depth..];
    let bytes = memchr::memchr(STAR, first).unwrap_or(first.len()).min(DEPTH_MAX - depth);
    let length = entries.iter().map(|entry| common(&first[..bytes], &entry.symbols[depth..])).min();
    first[..length.unwrap_or(0)].into()
}

/// How many symbols two patterns begin with alike.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn remove(link: &mut Option<Node>, symbols: &[u8], id: u32, depth: usize) {
    if let Some(node) = link
        && remove_at(node, symbols, id, depth)
    {
        *link = None;
    }
}

/// Removes a pattern and says whether nothing is left.
fn remove_at(node: &mut Node, symbols: &[u8], id: u32, depth: usize) -> bool {
    match node {
        Node::Bucket(entries) => {
            *entries = entries.iter().filter(|entry| entry.id != id).cloned().collect();
            entries.is_empty()
        }
        Node::Inner(inner) => {
            let inner = Arc::make_mut(inner);
            inner.remove(symbols, id, depth);
            inner.is_empty()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All patterns up to four symbols of a small alphabet, no two stars in a row.
    fn patterns() -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = vec![vec![]];
        let mut from = 0;
        for _ in 0..4 {
            let longest = from..all.len();
            from = all.len();
            for index in longest {
                for symbol in [b'a', b'b', STAR] {
                    if symbol != STAR || all[index].last() != Some(&STAR) {
                        all.push([all[index].as_slice(), &[symbol]].concat());
                    }
                }
            }
        }
        all
    }

    fn found(trie: &Trie, text: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        trie.run(text, &mut |id| ids.push(id));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    #[test]
    fn it_finds_what_a_comparison_one_by_one_finds() {
        let patterns = patterns();
        let mut trie = Trie::default();
        for (id, symbols) in patterns.iter().enumerate() {
            trie.insert(symbols.clone(), id as u32);
        }
        let before = trie.clone();
        for (id, symbols) in patterns.iter().enumerate().filter(|(id, _)| id % 3 != 0) {
            trie.remove(symbols, id as u32);
        }
        for number in 0..3u32.pow(6) {
            let text: Vec<u8> = (0..6)
                .map(|place| b"ab."[(number / 3u32.pow(place) % 3) as usize])
                .filter(|&byte| byte != b'.')
                .collect();
            let wanted = |there: fn(usize) -> bool| -> Vec<u32> {
                let matching = |(id, symbols): &(usize, &Vec<u8>)| there(*id) && matches_symbols(symbols, &text);
                patterns.iter().enumerate().filter(matching).map(|(id, _)| id as u32).collect()
            };
            assert_eq!(found(&before, &text), wanted(|_| true), "{text:?}");
            assert_eq!(found(&trie, &text), wanted(|id| id % 3 == 0), "{text:?}");
        }
        for (id, symbols) in patterns.iter().enumerate() {
            trie.remove(symbols, id as u32);
        }
        assert!(trie.is_empty());
    }

    #[test]
    fn long_common_prefixes_do_not_nest_without_end() {
        let mut trie = Trie::default();
        let symbols = |id: u32| [vec![b'x'; 100_000], id.to_string().into_bytes(), vec![STAR]].concat();
        for id in 0..50 {
            trie.insert(symbols(id), id);
        }
        assert_eq!(found(&trie, &symbols(49)), [4, 49]);
        (0..50).for_each(|id| trie.remove(&symbols(id), id));
        assert!(trie.is_empty());
    }
}
