//! What rules hold in memory, and that removal gives it back.

#![allow(unsafe_code, reason = "counting what is allocated takes an allocator")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicIsize, Ordering},
};

use synapse_hub_matcher::{Input, Matcher, Pattern, Scratch};

struct Counting;

static BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RULES: isize = 10_000;

fn pattern(number: isize) -> Pattern {
    let json = match number % 4 {
        0 => format!(r#"{{"event":["ready"],"framework":["f{}"],"model":["classifier-{number}"]}}"#, number % 10),
        1 => format!(r#"{{"artifact":[{{"prefix":"s3://models/{number}/"}}],"event":["ready","failed"]}}"#),
        2 => format!(r#"{{"loss":[{{"numeric":[">=",{number},"<",{}]}}]}}"#, number + 2),
        _ => format!(r#"{{"name":[{{"wildcard":"*-{number}-*"}},{{"anything-but":["a","b"]}}],"key-{number}":[1]}}"#),
    };
    Pattern::parse(&json).unwrap()
}

#[test]
fn a_rule_is_small_and_removal_gives_its_memory_back() {
    let mut matcher = Matcher::new();
    let mut scratch = Scratch::new();
    let before = BYTES.load(Ordering::Relaxed);
    for number in 0..RULES {
        matcher.insert(number, &pattern(number));
    }
    let full = BYTES.load(Ordering::Relaxed) - before;
    assert!(full / RULES <= 600, "{} bytes a rule", full / RULES);

    // In an order unlike that of insertion; every thousandth stays.
    for step in 0..RULES {
        let number = step * 7919 % RULES;
        if number % 1000 != 0 {
            assert!(matcher.remove(&number));
        }
    }
    let left = BYTES.load(Ordering::Relaxed) - before;
    assert!(left * 8 < full, "{left} of {full} bytes are left with a thousandth of the rules");
    let mut out = Vec::new();
    let data = br#"{"event":"ready","framework":"f0","model":"classifier-4000"}"#;
    matcher.matches(&Input { attributes: &(), data }, &mut scratch, &mut out);
    assert_eq!(out, [4000]);

    // And takes the places again.
    for number in 0..RULES {
        if number % 1000 != 0 {
            matcher.insert(number, &pattern(number));
        }
    }
    let again = BYTES.load(Ordering::Relaxed) - before;
    assert!(again * 4 < full * 5, "{again} bytes instead of {full}");
    (0..RULES).for_each(|number| assert!(matcher.remove(&number)));
    drop(scratch);
    assert!(BYTES.load(Ordering::Relaxed) - before < 100_000);
}
