//! Redis stream entries of anybody: names and values in turns, with NUL between them. What was read can be written by
//! Synapse and comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use synapse_hub_core::fields::WellKnown;
use synapse_hub_redis::entry::{EntryId, decode, encode};

const ID: EntryId = EntryId { ms: 1_735_689_600_000, seq: 3 };

fuzz_target!(|input: &[u8]| {
    let mut texts = input.split(|&byte| byte == 0);
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        fields.push((name, value));
    }
    let Ok(records) = decode("topic", 0, ID, &fields, &WellKnown) else { return };
    for record in records {
        let written = encode(&record.event);
        let fields: Vec<_> = written.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        let again = decode("topic", 0, ID, &fields, &WellKnown).expect("what was written can be read");
        assert_eq!(again.len(), 1);
        let mut event = again[0].event.clone();
        // Fields that became data may come in another order.
        assert_eq!(value(event.data()), value(record.event.data()));
        event.set_data(record.event.data().clone());
        assert_eq!(event, record.event);
    }
});

/// The data as JSON, or as text when it is none.
fn value(data: &[u8]) -> Value {
    serde_json::from_slice(data).unwrap_or_else(|_| String::from_utf8_lossy(data).into())
}
