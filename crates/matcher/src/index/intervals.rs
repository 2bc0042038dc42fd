//! Intervals of numbers: which of them hold a number.

use std::sync::Arc;

/// A balanced tree of closed intervals in the order of their low ends, each node with the highest end below it. Its clone
/// is a snapshot; a change copies the path to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Intervals {
    root: Link,
}

type Link = Option<Arc<Node>>;

#[derive(Debug, Clone)]
struct Node {
    low: u128,
    high: u128,
    /// The highest end of this node and all below it.
    high_max: u128,
    id: u32,
    /// Higher than that of all below it: the tree is a heap by it, which balances it.
    priority: u32,
    left: Link,
    right: Link,
}

impl Intervals {
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    pub(crate) fn insert(&mut self, low: u128, high: u128, id: u32) {
        let node = Node { low, high, high_max: high, id, priority: mix(id), left: None, right: None };
        insert(&mut self.root, node);
    }

    pub(crate) fn remove(&mut self, low: u128, id: u32) {
        remove(&mut self.root, (low, id));
    }

    /// Names the intervals that hold the number.
    pub(crate) fn holding(&self, number: u128, mut found: impl FnMut(u32)) {
        holding(&self.root, number, &mut found);
    }
}

/// Spreads the numbers; deterministic, so that equal sets make equal trees.
fn mix(id: u32) -> u32 {
    let mixed = u64::from(id ^ 0x9E37_79B9).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed ^ mixed >> 32) as u32
}

fn insert(link: &mut Link, mut new: Node) {
    match link {
        Some(node) if node.priority >= new.priority => {
            let node = Arc::make_mut(node);
            let side = if (new.low, new.id) < (node.low, node.id) { &mut node.left } else { &mut node.right };
            insert(side, new);
            node.renew();
        }
        _ => {
            (new.left, new.right) = split(link.take(), (new.low, new.id));
            new.renew();
            *link = Some(Arc::new(new));
        }
    }
}

/// The nodes before the key and the nodes after it.
fn split(link: Link, key: (u128, u32)) -> (Link, Link) {
    let Some(node) = link else { return (None, None) };
    let mut node = Arc::unwrap_or_clone(node);
    if (node.low, node.id) < key {
        let (left, right) = split(node.right.take(), key);
        node.right = left;
        node.renew();
        (Some(Arc::new(node)), right)
    } else {
        let (left, right) = split(node.left.take(), key);
        node.left = right;
        node.renew();
        (left, Some(Arc::new(node)))
    }
}

fn remove(link: &mut Link, key: (u128, u32)) {
    let Some(node) = link else { return };
    if (node.low, node.id) == key {
        let node = Arc::make_mut(node);
        *link = join(node.left.take(), node.right.take());
        return;
    }
    let node = Arc::make_mut(node);
    remove(if key < (node.low, node.id) { &mut node.left } else { &mut node.right }, key);
    node.renew();
}

/// One tree of two, all of the first before all of the second.
fn join(left: Link, right: Link) -> Link {
    match (left, right) {
        (None, other) | (other, None) => other,
        (Some(mut left), Some(right)) if left.priority >= right.priority => {
            let node = Arc::make_mut(&mut left);
            node.right = join(node.right.take(), Some(right));
            node.renew();
            Some(left)
        }
        (left, Some(mut right)) => {
            let node = Arc::make_mut(&mut right);
            node.left = join(left, node.left.take());
            node.renew();
            Some(right)
        }
    }
}

fn holding(link: &Link, number: u128, found: &mut impl FnMut(u32)) {
    let Some(node) = link else { return };
    if node.high_max < number {
        return;
    }
    holding(&node.left, number, found);
    if node.low <= number {
        if number <= node.high {
            found(node.id);
        }
        holding(&node.right, number, found);
    }
}

impl Node {
    fn renew(&mut self) {
        let below = |link: &Link| link.as_ref().map_or(0, |node| node.high_max);
        self.high_max = self.high.max(below(&self.left)).max(below(&self.right));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_intervals_that_hold_a_number_are_found() {
        let mut intervals = Intervals::default();
        let bounds = |id: u32| {
            let low = u128::from(id) * 7919 % 1000;
            (low, low + u128::from(id) % 50)
        };
        for id in 0..500 {
            intervals.insert(bounds(id).0, bounds(id).1, id);
        }
        let before = intervals.clone();
        for id in (0..500).filter(|id| id % 4 == 0) {
            intervals.remove(bounds(id).0, id);
        }
        for number in 0..1100 {
            let check = |intervals: &Intervals, there: fn(u32) -> bool| {
                let mut seen = Vec::new();
                intervals.holding(number, |id| seen.push(id));
                seen.sort_unstable();
                let holds = |id: &u32| there(*id) && (bounds(*id).0..=bounds(*id).1).contains(&number);
                assert_eq!(seen, (0..500).filter(holds).collect::<Vec<_>>());
            };
            check(&before, |_| true);
            check(&intervals, |id| id % 4 != 0);
        }
        (0..500).for_each(|id| intervals.remove(bounds(id).0, id));
        assert!(intervals.is_empty());
    }
}
