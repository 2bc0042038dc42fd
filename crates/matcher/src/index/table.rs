//! A hash table of numbers, whose keys are kept elsewhere.

use super::pages::Pages;

/// Open addressing with linear probing. A slot is 32 bits of the hash above 32 bits of the number plus one; zero is empty.
/// The hash in the slot spares most looks at the key, and lets the table grow without the keys.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    slots: Slots,
    used: usize,
}

/// On large pages: an insert into a large table changes few slots, far from each other.
type Slots = Pages<u64, 9, 4>;

const SLOTS_MIN: usize = 8;

impl Default for Table {
    fn default() -> Self {
        Self { slots: empty(SLOTS_MIN), used: 0 }
    }
}

fn empty(slots: usize) -> Slots {
    std::iter::repeat_n(0, slots).collect()
}

impl Table {
    /// The number under this hash whose key is equal.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_equal: impl FnMut(u32) -> bool) -> Option<u32> {
        let (tag, mask) = (tag(hash), self.slots.len() - 1);
        let mut at = tag as usize & mask;
        loop {
            let slot = *self.slots.get(at);
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == tag && is_equal(slot as u32 - 1) {
                return Some(slot as u32 - 1);
            }
            at = (at + 1) & mask;
        }
    }

    /// Enters a number, which must not be there.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        self.used += 1;
        if self.used * 8 > self.slots.len() * 5 {
            self.resize(self.slots.len() * 2);
        }
        self.enter(u64::from(tag(hash)) << 32 | u64::from(number + 1));
    }

    /// Removes a number, which must be there under this hash.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        let mask = self.slots.len() - 1;
        let wanted = u64::from(tag(hash)) << 32 | u64::from(number + 1);
        let mut hole = tag(hash) as usize & mask;
        while *self.slots.get(hole) != wanted {
            if *self.slots.get(hole) == 0 {
                return;
            }
            hole = (hole + 1) & mask;
        }
        // Slots that follow move up into the hole, unless that would put them before the place where they are sought.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = *self.slots.get(at);
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                *self.slots.get_mut(hole) = slot;
                hole = at;
            }
        }
        *self.slots.get_mut(hole) = 0;
        self.used -= 1;
        if self.slots.len() > SLOTS_MIN && self.used * 8 < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
    }

    fn enter(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = (slot >> 32) as usize & mask;
        while *self.slots.get(at) != 0 {
            at = (at + 1) & mask;
        }
        *self.slots.get_mut(at) = slot;
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, empty(slots));
        old.iter().filter(|&&slot| slot != 0).for_each(|&slot| self.enter(slot));
    }
}

#[inline]
fn tag(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_entered_is_found_until_it_is_removed() {
        // A poor hash, so that runs are long and wrap around.
        let hash = |number: u32| u64::from(number % 97) << 3;
        let mut table = Table::default();
        for number in 0..2_000 {
            table.insert(hash(number), number);
        }
        let before = table.clone();
        for number in (0..2_000).filter(|number| number % 3 != 0) {
            table.remove(hash(number), number);
        }
        for number in 0..2_000 {
            let found = |table: &Table| table.find(hash(number), |other| other == number).is_some();
            assert_eq!(found(&table), number % 3 == 0);
            assert!(found(&before));
        }
        for number in (0..2_000).filter(|number| number % 3 == 0) {
            table.remove(hash(number), number);
        }
        assert_eq!((table.used, table.slots.len()), (0, SLOTS_MIN));
    }
}
