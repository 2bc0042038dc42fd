//! A vector in shared pages: its clone is a snapshot, and a change copies one page, not the vector.

use std::sync::Arc;

const PAGE_BITS: usize = 6;
const PAGE: usize = 1 << PAGE_BITS;
const MASK: usize = PAGE - 1;

type Page<T> = Arc<[T]>;
type Shelf<T> = Arc<Vec<Page<T>>>;

/// A growable vector. Three levels: shelves of 64 pages of 64 elements. Pages that no snapshot shares change in place.
#[derive(Debug, Clone)]
pub(crate) struct Pages<T> {
    shelves: Arc<Vec<Shelf<T>>>,
    len: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { shelves: Arc::default(), len: 0 }
    }
}

impl<T: Clone + Default> Pages<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The element, which must exist.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> &T {
        &self.shelves[at >> (2 * PAGE_BITS)][at >> PAGE_BITS & MASK][at & MASK]
    }

    /// The element, which must exist, to be changed.
    pub(crate) fn get_mut(&mut self, at: usize) -> &mut T {
        let shelf = &mut Arc::make_mut(&mut self.shelves)[at >> (2 * PAGE_BITS)];
        let page = &mut Arc::make_mut(shelf)[at >> PAGE_BITS & MASK];
        &mut Arc::make_mut(page)[at & MASK]
    }

    pub(crate) fn push(&mut self, value: T) {
        let at = self.len;
        let shelves = Arc::make_mut(&mut self.shelves);
        if at >> (2 * PAGE_BITS) == shelves.len() {
            shelves.push(Arc::default());
        }
        let shelf = Arc::make_mut(&mut shelves[at >> (2 * PAGE_BITS)]);
        if at >> PAGE_BITS & MASK == shelf.len() {
            shelf.push(Arc::default());
        }
        let page = &mut shelf[at >> PAGE_BITS & MASK];
        if at & MASK >= page.len() {
            // A page doubles, so that a short vector is small.
            let size = (page.len() * 2).max((at & MASK) + 1).clamp(4, PAGE);
            *page = page.iter().cloned().chain(std::iter::repeat_with(T::default)).take(size).collect();
        }
        Arc::make_mut(page)[at & MASK] = value;
        self.len += 1;
    }

    /// Gives the memory of the page around an element back, if nothing on it is needed. [`Pages::restore`] comes first
    /// before any of its elements is asked for again.
    pub(crate) fn release(&mut self, at: usize, is_free: impl Fn(&T) -> bool) {
        let page = &self.shelves[at >> (2 * PAGE_BITS)][at >> PAGE_BITS & MASK];
        if page.iter().all(is_free) {
            let shelf = &mut Arc::make_mut(&mut self.shelves)[at >> (2 * PAGE_BITS)];
            Arc::make_mut(shelf)[at >> PAGE_BITS & MASK] = Arc::default();
        }
    }

    /// Makes the page around an element anew, if its memory was given back.
    pub(crate) fn restore(&mut self, at: usize) {
        let shelf = &mut Arc::make_mut(&mut self.shelves)[at >> (2 * PAGE_BITS)];
        let page = &mut Arc::make_mut(shelf)[at >> PAGE_BITS & MASK];
        if page.is_empty() {
            *page = std::iter::repeat_with(T::default).take(PAGE).collect();
        }
    }

    /// The elements with their places, but for those on pages that were given back.
    pub(crate) fn iter_kept(&self) -> impl Iterator<Item = (usize, &T)> {
        let pages = self.shelves.iter().flat_map(|shelf| shelf.iter()).enumerate();
        pages.flat_map(|(number, page)| page.iter().enumerate().map(move |(at, value)| (number * PAGE + at, value)))
    }

    /// Removes an element; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        let last = self.len - 1;
        let moved = std::mem::take(self.get_mut(last));
        if at != last {
            *self.get_mut(at) = moved;
        }
        self.len = last;
        if last & MASK == 0 {
            let shelves = Arc::make_mut(&mut self.shelves);
            let shelf = Arc::make_mut(&mut shelves[last >> (2 * PAGE_BITS)]);
            shelf.pop();
            if shelf.is_empty() {
                shelves.pop();
            }
        }
    }

    /// Removes the first such element; the last one takes its place.
    pub(crate) fn remove_first(&mut self, is_meant: impl Fn(&T) -> bool) {
        let at = self.iter().position(is_meant);
        if let Some(at) = at {
            self.swap_remove(at);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.shelves.iter().flat_map(|shelf| shelf.iter()).flat_map(|page| page.iter()).take(self.len)
    }
}

impl<T: Clone + Default> FromIterator<T> for Pages<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut pages = Self::default();
        values.into_iter().for_each(|value| pages.push(value));
        pages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut pages: Pages<usize> = (0..10_000).collect();
        let before = pages.clone();
        for at in 0..5_000 {
            *pages.get_mut(at * 2) += 1;
        }
        pages.push(7);
        for _ in 0..9_000 {
            pages.swap_remove(0);
        }
        assert_eq!(pages.len(), 1_001);
        assert_eq!(pages.iter().count(), 1_001);
        assert!(before.iter().copied().eq(0..10_000));
        assert_eq!(*before.get(9_999), 9_999);
    }

    #[test]
    fn removal_frees_pages_and_growth_takes_them_again() {
        let mut pages = Pages::default();
        for round in 0..3 {
            for value in 0..200 * (round + 1) {
                pages.push(value);
            }
            while pages.len() > 0 {
                pages.swap_remove(pages.len() / 2);
            }
            assert!(pages.shelves.is_empty());
        }
    }
}
