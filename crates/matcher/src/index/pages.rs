//! A vector in shared pages: its clone is a snapshot, and a change copies one page, not the vector.

use std::sync::Arc;

type Page<T> = Arc<[T]>;
type Shelf<T> = Arc<Vec<Page<T>>>;

/// A growable vector. Three levels: shelves of pages of elements, `1 << SHELF_BITS` and `1 << PAGE_BITS` of them. Pages that
/// no snapshot shares change in place.
///
/// A change of a shared vector copies one page, and counts the references that its shelf has to all of its pages, which
/// are far apart in memory: elements that are cheap to copy are better on few large pages.
#[derive(Debug, Clone)]
pub(crate) struct Pages<T, const PAGE_BITS: usize = 6, const SHELF_BITS: usize = 6> {
    shelves: Arc<Vec<Shelf<T>>>,
    len: usize,
}

impl<T, const PAGE_BITS: usize, const SHELF_BITS: usize> Default for Pages<T, PAGE_BITS, SHELF_BITS> {
    fn default() -> Self {
        Self { shelves: Arc::default(), len: 0 }
    }
}

impl<T: Clone + Default, const PAGE_BITS: usize, const SHELF_BITS: usize> Pages<T, PAGE_BITS, SHELF_BITS> {
    const PAGE: usize = 1 << PAGE_BITS;
    const MASK: usize = Self::PAGE - 1;

    /// The shelf of an element, its page on the shelf, and its place on the page.
    #[inline]
    const fn place(at: usize) -> (usize, usize, usize) {
        (at >> (PAGE_BITS + SHELF_BITS), at >> PAGE_BITS & ((1 << SHELF_BITS) - 1), at & Self::MASK)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The element, which must exist.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> &T {
        let (shelf, page, place) = Self::place(at);
        &self.shelves[shelf][page][place]
    }

    /// The element, which must exist, to be changed.
    pub(crate) fn get_mut(&mut self, at: usize) -> &mut T {
        let (shelf, page, place) = Self::place(at);
        let shelf = &mut Arc::make_mut(&mut self.shelves)[shelf];
        &mut Arc::make_mut(&mut Arc::make_mut(shelf)[page])[place]
    }

    pub(crate) fn push(&mut self, value: T) {
        let (shelf, page, place) = Self::place(self.len);
        let shelves = Arc::make_mut(&mut self.shelves);
        if shelf == shelves.len() {
            shelves.push(Arc::default());
        }
        let shelf = Arc::make_mut(&mut shelves[shelf]);
        if page == shelf.len() {
            shelf.push(Arc::default());
        }
        let page = &mut shelf[page];
        if place >= page.len() {
            // A page doubles, so that a short vector is small.
            let size = (page.len() * 2).max(place + 1).clamp(4, Self::PAGE);
            *page = page.iter().cloned().chain(std::iter::repeat_with(T::default)).take(size).collect();
        }
        Arc::make_mut(page)[place] = value;
        self.len += 1;
    }

    /// Gives the memory of the page around an element back, if nothing on it is needed. [`Pages::restore`] comes first
    /// before any of its elements is asked for again.
    pub(crate) fn release(&mut self, at: usize, is_free: impl Fn(&T) -> bool) {
        let (shelf, page, _) = Self::place(at);
        if self.shelves[shelf][page].iter().all(is_free) {
            let shelf = &mut Arc::make_mut(&mut self.shelves)[shelf];
            Arc::make_mut(shelf)[page] = Arc::default();
        }
    }

    /// Makes the page around an element anew, if its memory was given back.
    pub(crate) fn restore(&mut self, at: usize) {
        let (shelf, page, _) = Self::place(at);
        if self.shelves[shelf][page].is_empty() {
            let shelf = &mut Arc::make_mut(&mut self.shelves)[shelf];
            Arc::make_mut(shelf)[page] = std::iter::repeat_with(T::default).take(Self::PAGE).collect();
        }
    }

    /// The elements with their places, but for those on pages that were given back.
    pub(crate) fn iter_kept(&self) -> impl Iterator<Item = (usize, &T)> {
        let pages = self.shelves.iter().flat_map(|shelf| shelf.iter()).enumerate();
        pages.flat_map(|(number, page)| {
            page.iter().enumerate().map(move |(at, value)| ((number << PAGE_BITS) + at, value))
        })
    }

    /// Removes an element; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, at: usize) {
        let last = self.len - 1;
        let moved = std::mem::take(self.get_mut(last));
        if at != last {
            *self.get_mut(at) = moved;
        }
        self.len = last;
        if last & Self::MASK == 0 {
            let shelves = Arc::make_mut(&mut self.shelves);
            let shelf = Arc::make_mut(&mut shelves[Self::place(last).0]);
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

impl<T: Clone + Default, const PAGE_BITS: usize, const SHELF_BITS: usize> FromIterator<T>
    for Pages<T, PAGE_BITS, SHELF_BITS>
{
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
        let mut pages: Pages<usize> = Pages::default();
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

    #[test]
    fn a_page_that_nothing_needs_is_given_back_and_made_anew() {
        let mut pages: Pages<usize, 2, 1> = (1..=30).collect();
        let before = pages.clone();
        (8..12).for_each(|at| *pages.get_mut(at) = 0);
        (8..12).for_each(|at| pages.release(at, |&value| value == 0));
        pages.release(0, |&value| value == 0);
        let kept: Vec<(usize, usize)> = pages.iter_kept().take(30 - 4).map(|(at, &value)| (at, value)).collect();
        assert_eq!(kept, (0..8).chain(12..30).map(|at| (at, at + 1)).collect::<Vec<_>>());
        pages.restore(9);
        assert_eq!((*pages.get(7), *pages.get(9), *pages.get(29)), (8, 0, 30));
        assert!(before.iter().copied().eq(1..=30));
    }
}
