//! gRPC batches: what is read is written and read again as the same events, as they are and with their attributes set anew.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use synapse_hub_core::batch;

fuzz_target!(|input: &[u8]| {
    let Ok(events) = batch::decode(Bytes::copy_from_slice(input)) else { return };
    let again = batch::decode(batch::encode(&events)).expect("what was written can be read");
    assert_eq!(again, events);
    let set_anew: Vec<_> = events
        .iter()
        .map(|event| {
            // Any change makes the event forget the bytes it was read from.
            let mut event = event.clone();
            event.set_id(event.id().clone());
            event
        })
        .collect();
    assert_eq!(batch::decode(batch::encode(&set_anew)).expect("what was written can be read"), events);
});
