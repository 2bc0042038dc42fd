//! The array rule: the fields of one pattern must agree on the element of an array of objects.
//!
//! Each condition comes with the trails of the values that satisfy it (in the order of the text); a condition that a path
//! be absent comes with the trails of all its values. A combination is sought in which no array is entered at two elements.
//! A value outside of arrays needs no element, so it is always the best choice. Within an element a path goes through at
//! most one array (see [`View::settle_dotted`]), so that every array can be decided for itself: no choice is ever undone.

use smallvec::SmallVec;

use crate::view::{TrailId, View};

type Trails<'t> = SmallVec<[&'t [TrailId]; 8]>;

/// Whether there is a combination. No list of `present` is empty.
pub(crate) fn agree(view: &View, present: &[Vec<TrailId>], absent: &[Vec<TrailId>]) -> bool {
    let present = present.iter().map(Vec::as_slice).collect();
    let absent = absent.iter().map(Vec::as_slice).filter(|trails| !trails.is_empty()).collect();
    agree_within(view, present, absent, 0)
}

/// As [`agree`], for what is within one element `depth` arrays in.
fn agree_within(view: &View, mut present: Trails<'_>, mut absent: Trails<'_>, depth: u32) -> bool {
    let is_here = |trails: &[TrailId]| trails.iter().any(|&trail| view.trail(trail).depth == depth);
    present.retain(|trails| !is_here(trails));
    if absent.iter().any(|trails| is_here(trails)) {
        return false;
    }
    while let Some(first) = present.first() {
        let array = view.element(first[0], depth + 1).0;
        let of_array = |trails: &[TrailId]| view.element(trails[0], depth + 1).0 == array;
        let (here, others) = present.iter().copied().partition(|trails| of_array(trails));
        let (hidden, visible) = absent.iter().copied().partition(|trails| of_array(trails));
        if !agree_on_element(view, &here, &hidden, depth + 1) {
            return false;
        }
        (present, absent) = (others, visible);
    }
    // What stands in an array that no other field enters is there.
    absent.is_empty()
}

/// Whether some element of the array that all these trails enter at `depth` fits.
fn agree_on_element(view: &View, present: &Trails<'_>, absent: &Trails<'_>, depth: u32) -> bool {
    let index_of = |trail: &TrailId| view.element(*trail, depth).1;
    let mut rest = present[0];
    while let Some(first) = rest.first() {
        let index = index_of(first);
        rest = &rest[rest.partition_point(|trail| index_of(trail) <= index)..];
        let within: Trails<'_> = present.iter().map(|trails| at_index(trails, index, index_of)).collect();
        if within.iter().any(|trails| trails.is_empty()) {
            continue;
        }
        let without = absent.iter().map(|trails| at_index(trails, index, index_of)).filter(|trails| !trails.is_empty());
        if agree_within(view, within, without.collect(), depth) {
            return true;
        }
    }
    false
}

/// The part of the trails that enters the element of this index; they are in the order of their index.
fn at_index(trails: &[TrailId], index: u32, index_of: impl Fn(&TrailId) -> u32) -> &[TrailId] {
    let start = trails.partition_point(|trail| index_of(trail) < index);
    let end = trails.partition_point(|trail| index_of(trail) <= index);
    &trails[start..end]
}
