//! CloudEvents in JSON, one or a batch: what was read is written as one line, and comes back as the same event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_hub_core::{Event, cloudevents, json};

const DEPTH_MAX: usize = 64;
const EVENTS_MAX: usize = 100;

fuzz_target!(|input: &[u8]| {
    if let Ok(event) = cloudevents::decode(input, DEPTH_MAX) {
        survives(&event);
    }
    if let Ok(events) = cloudevents::decode_batch(input, DEPTH_MAX, EVENTS_MAX) {
        events.iter().flatten().for_each(survives);
    }
});

fn survives(event: &Event) {
    // Base64 can carry what is no JSON although it should be: the hub refuses that in the next step.
    if event.is_json() && !event.data().is_empty() && json::check(event.data(), DEPTH_MAX).is_err() {
        return;
    }
    let written = cloudevents::encode(event);
    assert!(!written.contains(&b'\n'));
    let again = cloudevents::decode(&written, DEPTH_MAX + 1).expect("what was written can be read");
    assert_eq!(cloudevents::encode(&again), written);
    // The data's own line breaks are gone, which changes no value.
    let mut expected = event.clone();
    expected.set_data(again.data().clone());
    assert_eq!(again, expected);
}
