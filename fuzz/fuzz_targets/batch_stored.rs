//! Stored batches: damage is an error and never a panic, and the checksum that guards the rest can be got past.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_hub_core::batch;

const HEADER_BYTES: usize = 6;

fuzz_target!(|input: &[u8]| {
    let _ = batch::decode_stored(input.to_vec().into());
    // A checksum over random bytes fits too seldom to get further, so the same body goes in with a fitting one too.
    if let Some(body) = input.get(HEADER_BYTES..) {
        let mut sealed = batch::encode_stored(body, None);
        sealed[1] = input[1] & 3;
        let _ = batch::decode_stored(sealed.into());
    }
    let packed = batch::encode_stored(input, Some(1));
    assert_eq!(batch::unpack_stored(packed.into()).expect("what was stored can be read"), input);
});
