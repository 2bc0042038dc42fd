//! Flat JSON: an event that was read is the same after it was written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_hub_core::flat;

const DEPTH_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Ok(event) = flat::decode(input, DEPTH_MAX) else { return };
    let written = flat::encode(&event);
    let again = flat::decode(&written, DEPTH_MAX).expect("what was written can be read");
    assert_eq!(again, event);
    assert_eq!(flat::encode(&again), written);
});
