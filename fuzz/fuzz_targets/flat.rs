//! Flat JSON: an event that was read is the same after it was written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_hub_core::{flat, json};

const DEPTH_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    let Ok(event) = flat::decode(input, DEPTH_MAX) else { return };
    let written = flat::encode(&event);
    let again = flat::decode(&written, DEPTH_MAX).expect("what was written can be read");
    let mut expected = event.clone();
    if event.is_json() {
        // An event is written as one line: line breaks between values become spaces.
        let mut data = event.data().to_vec();
        json::join_lines(&mut data);
        expected.set_data(data);
    }
    assert_eq!(again, expected);
    assert_eq!(flat::encode(&again), written);
});
