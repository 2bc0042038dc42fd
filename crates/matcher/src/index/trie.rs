//! The byte automaton of a path: prefixes and wildcards, all in one pass over a text.
//!
//! A tree over the bytes and stars of the patterns. It is run without being made deterministic: the nodes that a text can
//! stand at are kept in a list, of which each is in it once, so that a byte costs at most one step for each node and no
//! text can make it explode. Near its leaves the tree is not built: up to [`BUCKET`] patterns share a bucket, and are
//! compared when a text reaches it.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::text::{STAR, matches_symbols};

/// More patterns than this in one place become a node with children.
const BUCKET: usize = 8;
/// Deeper than this the tree is not built; a bucket there may be of any size.
const DEPTH_MAX: usize = 128;

/// Patterns as symbols: bytes of UTF-8, and [`STAR`]. No two are equal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trie {
    root: Option<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Bucket(Arc<Vec<Entry>>),
    Inner(Arc<Inner>),
}

#[derive(Debug, Clone)]
struct Entry {
    symbols: Arc<[u8]>,
    id: u32,
}

#[derive(Debug, Clone, Default)]
struct Inner {
    /// The pattern that ends here, if the text ends too.
    end: Option<u32>,
    /// The pattern of which only a star is left.
    any: Option<u32>,
    /// What follows after a star.
    star: Option<Node>,
    /// By the next byte, in order.
    children: Vec<(u8, Node)>,
}

impl Trie {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(crate) fn insert(&mut self, symbols: Vec<u8>, id: u32) {
        insert(&mut self.root, Entry { symbols: symbols.into(), id }, 0);
    }

    pub(crate) fn remove(&mut self, symbols: &[u8], id: u32) {
        remove(&mut self.root, symbols, id, 0);
    }

    /// Names the patterns that match the text, some perhaps more than once.
    pub(crate) fn run(&self, text: &[u8], found: &mut impl FnMut(u32)) {
        let Some(root) = &self.root else { return };
        let mut run = Run { text, found, now: SmallVec::new(), next: SmallVec::new(), stars: SmallVec::new() };
        run.arrive(root, 0, 0);
        for (at, &byte) in text.iter().enumerate() {
            std::mem::swap(&mut run.now, &mut run.next);
            run.next.clear();
            if run.now.is_empty() && run.stars.is_empty() {
                return;
            }
            for index in 0..run.now.len() {
                let (inner, depth) = run.now[index];
                run.step(inner, depth, byte, at);
            }
            // Stars that are reached by this byte count from the next one.
            for index in 0..run.stars.len() {
                if let (Node::Inner(inner), depth, from) = run.stars[index]
                    && from <= at
                {
                    run.step(inner, depth, byte, at);
                }
            }
        }
    }
}

/// The automaton on its way through a text.
struct Run<'t, F> {
    text: &'t [u8],
    found: &'t mut F,
    /// Nodes that the next byte is for, with how many symbols lead to them.
    now: SmallVec<[(&'t Inner, usize); 8]>,
    next: SmallVec<[(&'t Inner, usize); 8]>,
    /// What stands behind a star that was reached, and from where on; every further byte is for these.
    stars: SmallVec<[(&'t Node, usize, usize); 8]>,
}

impl<'t, F: FnMut(u32)> Run<'t, F> {
    #[inline]
    fn step(&mut self, inner: &'t Inner, depth: usize, byte: u8, at: usize) {
        if let Some(child) = inner.child(byte) {
            self.arrive(child, depth + 1, at + 1);
        }
    }

    /// `depth` symbols fit the text up to `at`.
    fn arrive(&mut self, node: &'t Node, depth: usize, at: usize) {
        match node {
            Node::Bucket(entries) => self.compare(entries, depth, at),
            Node::Inner(inner) => {
                if let Some(id) = inner.any {
                    (self.found)(id);
                }
                if let Some(id) = inner.end.filter(|_| at == self.text.len()) {
                    (self.found)(id);
                }
                if let Some(star) = &inner.star {
                    self.arrive_star(star, depth + 1, at);
                }
                if !inner.children.is_empty() {
                    self.next.push((inner, depth));
                }
            }
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
            self.compare(entries, depth - 1, at);
        }
    }

    fn compare(&mut self, entries: &[Entry], depth: usize, at: usize) {
        for entry in entries {
            if matches_symbols(&entry.symbols[depth..], &self.text[at..]) {
                (self.found)(entry.id);
            }
        }
    }
}

impl Inner {
    #[inline]
    fn child(&self, byte: u8) -> Option<&Node> {
        match self.children.as_slice() {
            [(only, node)] => (*only == byte).then_some(node),
            children => children.binary_search_by_key(&byte, |(byte, _)| *byte).ok().map(|at| &children[at].1),
        }
    }

    fn is_empty(&self) -> bool {
        self.end.is_none() && self.any.is_none() && self.star.is_none() && self.children.is_empty()
    }

    fn insert(&mut self, entry: Entry, depth: usize) {
        match entry.symbols.get(depth) {
            None => self.end = Some(entry.id),
            Some(&STAR) if depth + 1 == entry.symbols.len() => self.any = Some(entry.id),
            Some(&STAR) => insert(&mut self.star, entry, depth + 1),
            Some(&byte) => match self.children.binary_search_by_key(&byte, |(byte, _)| *byte) {
                Ok(at) => insert_at(&mut self.children[at].1, entry, depth + 1),
                Err(at) => self.children.insert(at, (byte, Node::Bucket(Arc::new(vec![entry])))),
            },
        }
    }

    fn remove(&mut self, symbols: &[u8], id: u32, depth: usize) {
        match symbols.get(depth) {
            None => self.end = None,
            Some(&STAR) if depth + 1 == symbols.len() => self.any = None,
            Some(&STAR) => remove(&mut self.star, symbols, id, depth + 1),
            Some(byte) => {
                let Ok(at) = self.children.binary_search_by_key(byte, |(byte, _)| *byte) else { return };
                if remove_at(&mut self.children[at].1, symbols, id, depth + 1) {
                    self.children.remove(at);
                }
            }
        }
    }
}

fn insert(link: &mut Option<Node>, entry: Entry, depth: usize) {
    match link {
        Some(node) => insert_at(node, entry, depth),
        None => *link = Some(Node::Bucket(Arc::new(vec![entry]))),
    }
}

fn insert_at(node: &mut Node, entry: Entry, depth: usize) {
    match node {
        Node::Inner(inner) => Arc::make_mut(inner).insert(entry, depth),
        Node::Bucket(entries) => {
            let entries = Arc::make_mut(entries);
            entries.push(entry);
            if entries.len() > BUCKET && depth < DEPTH_MAX {
                let mut inner = Inner::default();
                entries.drain(..).for_each(|entry| inner.insert(entry, depth));
                *node = Node::Inner(Arc::new(inner));
            }
        }
    }
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
            let entries = Arc::make_mut(entries);
            entries.retain(|entry| entry.id != id);
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
            for index in from..all.len() {
                from += 1;
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
