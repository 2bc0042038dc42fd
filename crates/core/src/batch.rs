//! The record batch: the protobuf message `synapse.v1.EventBatch`, read without copying.
//!
//! One format for gRPC frames, the embedded log and packed Redis entries. The codec is written by hand because every text
//! must be a slice of the batch it came in, and because an event that was not changed is written as the bytes it was
//! read from; a test holds it against the generated types.

use std::fmt;

use bytes::{Buf, Bytes};
use bytestring::ByteString;
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};

use crate::{Code, Error, Event, Result, Timestamp};

const STORED_MAGIC: u8 = 0xB5;
const STORED_PLAIN: u8 = 0;
const STORED_ZSTD: u8 = 1;
const STORED_HEADER_BYTES: usize = 6;
/// The most bytes that a 32-bit number takes as a varint.
const NUMBER_BYTES_MAX: usize = 5;

/// The largest batch that a stored form may unpack to, in bytes.
pub const BATCH_BYTES_MAX: usize = 256 << 20;

/// Reads an `EventBatch`. The events share its bytes.
///
/// What is accepted here may be handed on byte by byte, so it must be readable for every decoder of protobuf, however
/// strict: whatever one of them refuses is refused here.
///
/// # Errors
/// `invalid_event` when the bytes are no batch.
pub fn decode(mut bytes: Bytes) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    while bytes.has_remaining() {
        match key(&mut bytes)? {
            (1, wire) => events.push(decode_event(take(&mut bytes, wire)?)?),
            (_, wire) => skip(&mut bytes, wire)?,
        }
    }
    Ok(events)
}

/// Reads one `Event`. It shares the bytes.
///
/// # Errors
/// `invalid_event` when the bytes are no event.
pub fn decode_event(encoded: Bytes) -> Result<Event> {
    let mut bytes = encoded.clone();
    let mut event = Event::default();
    while bytes.has_remaining() {
        let (tag, wire) = key(&mut bytes)?;
        match tag {
            1 => event.id = text(&mut bytes, wire)?,
            2 => event.source = text(&mut bytes, wire)?,
            3 => event.kind = text(&mut bytes, wire)?,
            4 => event.time = Timestamp::from_nanos(fixed(&mut bytes, wire)?),
            5 => event.more_mut().subject = text(&mut bytes, wire)?,
            6 => event.more_mut().partition_key = text(&mut bytes, wire)?,
            7 => event.correlation_id = text(&mut bytes, wire)?,
            8 => event.more_mut().traceparent = text(&mut bytes, wire)?,
            9 => {
                let nanos = fixed(&mut bytes, wire)?;
                event.more_mut().expiry_time = (nanos != 0).then_some(Timestamp::from_nanos(nanos));
            }
            10 => event.more_mut().data_content_type = text(&mut bytes, wire)?,
            11 => event.more_mut().data_schema = text(&mut bytes, wire)?,
            12 => {
                let attribute = decode_attribute(take(&mut bytes, wire)?)?;
                event.more_mut().extensions.push(attribute);
            }
            15 => event.data = take(&mut bytes, wire)?,
            _ => skip(&mut bytes, wire)?,
        }
    }
    event.encoded = encoded;
    Ok(event)
}

fn decode_attribute(mut bytes: Bytes) -> Result<(ByteString, ByteString)> {
    let (mut name, mut value) = (ByteString::new(), ByteString::new());
    while bytes.has_remaining() {
        match key(&mut bytes)? {
            (1, wire) => name = text(&mut bytes, wire)?,
            (2, wire) => value = text(&mut bytes, wire)?,
            (_, wire) => skip(&mut bytes, wire)?,
        }
    }
    Ok((name, value))
}

/// Writes an `EventBatch`. Events that were read and not changed are copied as the bytes that they were.
pub fn encode<'a>(events: impl IntoIterator<Item = &'a Event>) -> Bytes {
    let mut out = Vec::new();
    for event in events {
        let length = encoded_len(event);
        out.push(1 << 3 | WireType::LengthDelimited as u8);
        encode_varint(length as u64, &mut out);
        encode_event(event, &mut out);
    }
    out.into()
}

/// Writes one `Event`, without a length before it.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    if !event.encoded.is_empty() {
        out.extend_from_slice(&event.encoded);
        return;
    }
    let more = event.more();
    put(1, event.id.as_bytes(), out);
    put(2, event.source.as_bytes(), out);
    put(3, event.kind.as_bytes(), out);
    put_fixed(4, event.time.as_nanos(), out);
    put(5, more.subject.as_bytes(), out);
    put(6, more.partition_key.as_bytes(), out);
    put(7, event.correlation_id.as_bytes(), out);
    put(8, more.traceparent.as_bytes(), out);
    put_fixed(9, more.expiry_time.map_or(0, Timestamp::as_nanos), out);
    put(10, more.data_content_type.as_bytes(), out);
    put(11, more.data_schema.as_bytes(), out);
    for (name, value) in &more.extensions {
        out.push(12 << 3 | WireType::LengthDelimited as u8);
        encode_varint((field_len(name.len()) + field_len(value.len())) as u64, out);
        put(1, name.as_bytes(), out);
        put(2, value.as_bytes(), out);
    }
    put(15, &event.data, out);
}

fn encoded_len(event: &Event) -> usize {
    if !event.encoded.is_empty() {
        return event.encoded.len();
    }
    let more = event.more();
    let texts = [
        event.id.len(),
        event.source.len(),
        event.kind.len(),
        event.correlation_id.len(),
        more.subject.len(),
        more.partition_key.len(),
        more.traceparent.len(),
        more.data_content_type.len(),
        more.data_schema.len(),
        event.data.len(),
    ];
    let extensions = more.extensions.iter().map(|(name, value)| {
        let inner = field_len(name.len()) + field_len(value.len());
        1 + encoded_len_varint(inner as u64) + inner
    });
    let times = [event.time.as_nanos(), more.expiry_time.map_or(0, Timestamp::as_nanos)];
    texts.into_iter().map(field_len).sum::<usize>()
        + extensions.sum::<usize>()
        + times.into_iter().filter(|&nanos| nanos != 0).count() * 9
}

/// A batch as it is stored: a magic byte, a compression byte, a CRC-32 of the rest, then the batch.
///
/// `zstd_level` of `None` stores it as it is.
pub fn encode_stored(batch: &[u8], zstd_level: Option<i32>) -> Vec<u8> {
    let packed = zstd_level.and_then(|level| zstd::bulk::compress(batch, level).ok());
    let (kind, body) = match &packed {
        Some(packed) if packed.len() < batch.len() => (STORED_ZSTD, packed.as_slice()),
        _ => (STORED_PLAIN, batch),
    };
    let mut out = Vec::with_capacity(STORED_HEADER_BYTES + body.len());
    out.extend_from_slice(&[STORED_MAGIC, kind]);
    out.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Reads what [`encode_stored`] wrote.
///
/// # Errors
/// `storage_corrupt` when the checksum does not fit, or the bytes are no batch.
pub fn decode_stored(stored: Bytes) -> Result<Vec<Event>> {
    decode(unpack_stored(stored)?).map_err(|error| corrupt(error.message()))
}

/// The batch within what [`encode_stored`] wrote, checked and unpacked.
///
/// # Errors
/// `storage_corrupt` when the checksum does not fit.
pub fn unpack_stored(mut stored: Bytes) -> Result<Bytes> {
    if stored.len() < STORED_HEADER_BYTES || stored[0] != STORED_MAGIC {
        return Err(corrupt("it has no batch header"));
    }
    let kind = stored[1];
    let checksum = u32::from_le_bytes([stored[2], stored[3], stored[4], stored[5]]);
    stored.advance(STORED_HEADER_BYTES);
    if crc32fast::hash(&stored) != checksum {
        return Err(corrupt("its checksum does not fit"));
    }
    match kind {
        STORED_PLAIN => Ok(stored),
        STORED_ZSTD => {
            let size = zstd::zstd_safe::get_frame_content_size(&stored).ok().flatten().unwrap_or(u64::MAX);
            if size > BATCH_BYTES_MAX as u64 {
                return Err(corrupt("it unpacks to more than a batch may hold"));
            }
            zstd::bulk::decompress(&stored, size as usize).map(Bytes::from).map_err(|_| corrupt("it does not unpack"))
        }
        _ => Err(corrupt("its compression is not known; it was written by a newer version")),
    }
}

fn corrupt(why: &str) -> Error {
    Error::new(Code::StorageCorrupt, format!("a stored batch cannot be read: {why}"))
}

fn invalid(why: impl fmt::Display) -> Error {
    Error::new(Code::InvalidEvent, format!("the bytes are no EventBatch: {why}"))
}

/// The tag and the wire type of the next field.
fn key(bytes: &mut Bytes) -> Result<(u32, WireType)> {
    short(bytes, decode_key)
}

/// The bytes of a field that has a length.
fn take(bytes: &mut Bytes, wire: WireType) -> Result<Bytes> {
    expect(wire, WireType::LengthDelimited)?;
    let length = short(bytes, decode_varint)?;
    if length > bytes.remaining() as u64 {
        return Err(cut_off());
    }
    Ok(bytes.split_to(length as usize))
}

fn text(bytes: &mut Bytes, wire: WireType) -> Result<ByteString> {
    ByteString::try_from(take(bytes, wire)?)
        .map_err(|_| Error::new(Code::InvalidEvent, "an attribute is not UTF-8; send attributes as UTF-8 text"))
}

fn fixed(bytes: &mut Bytes, wire: WireType) -> Result<i64> {
    expect(wire, WireType::SixtyFourBit)?;
    bytes.try_get_i64_le().map_err(|_| cut_off())
}

/// Passes a field that this version does not know.
fn skip(bytes: &mut Bytes, wire: WireType) -> Result<()> {
    match wire {
        WireType::Varint => decode_varint(bytes).map(drop).map_err(invalid),
        WireType::SixtyFourBit => bytes.try_get_u64_le().map(drop).map_err(|_| cut_off()),
        WireType::ThirtyTwoBit => bytes.try_get_u32_le().map(drop).map_err(|_| cut_off()),
        WireType::LengthDelimited => take(bytes, wire).map(drop),
        // Proto3 has no groups, and decoders differ in how deep they let them nest.
        WireType::StartGroup | WireType::EndGroup => Err(invalid("it has a group")),
    }
}

fn expect(wire: WireType, expected: WireType) -> Result<()> {
    if wire == expected {
        Ok(())
    } else {
        Err(invalid(format_args!("a field is a {wire:?} instead of a {expected:?}")))
    }
}

/// Reads a number of 32 bits. In more bytes than it needs at most, some decoders refuse it.
fn short<T>(bytes: &mut Bytes, read: impl FnOnce(&mut Bytes) -> Result<T, prost::DecodeError>) -> Result<T> {
    let before = bytes.remaining();
    let value = read(bytes).map_err(invalid)?;
    if before - bytes.remaining() > NUMBER_BYTES_MAX {
        return Err(invalid("a tag or a length is longer than that of a 32-bit number"));
    }
    Ok(value)
}

fn cut_off() -> Error {
    invalid("a field is longer than what is left")
}

fn put(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        out.push(tag << 3 | WireType::LengthDelimited as u8);
        encode_varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

fn put_fixed(tag: u8, value: i64, out: &mut Vec<u8>) {
    if value != 0 {
        out.push(tag << 3 | WireType::SixtyFourBit as u8);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn field_len(length: usize) -> usize {
    if length == 0 { 0 } else { 1 + encoded_len_varint(length as u64) + length }
}

/// Gives each event an encoding, so that what is encoded once is written everywhere as the same bytes.
///
/// Call it before a batch that was changed goes to several places.
pub fn seal(events: &mut [Event]) {
    if events.iter().all(|event| !event.encoded.is_empty()) {
        return;
    }
    // One allocation for all, because it is shared and freed as one.
    let unsealed = || events.iter().filter(|event| event.encoded.is_empty());
    let mut out = Vec::with_capacity(unsealed().map(encoded_len).sum());
    let mut ends = Vec::with_capacity(events.len());
    for event in unsealed() {
        encode_event(event, &mut out);
        ends.push(out.len());
    }
    let out = Bytes::from(out);
    let mut start = 0;
    for (event, end) in events.iter_mut().filter(|event| event.encoded.is_empty()).zip(ends) {
        event.encoded = out.slice(start..end);
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use synapse_hub_proto::v1;

    use super::*;

    fn sample() -> Event {
        let mut event = Event::new("model-ready", r#"{"model_name":"classifier"}"#);
        event.set_id("1").set_source("helox").set_time(Timestamp::from_nanos(5)).set_correlation_id("c");
        event.more_mut().extensions.push(("priority".into(), "high".into()));
        event.more_mut().expiry_time = Some(Timestamp::from_nanos(9));
        event
    }

    #[test]
    fn a_batch_comes_back_as_it_was() {
        let events = vec![sample(), Event::new("x", ""), Event::default()];
        let encoded = encode(&events);
        let decoded = decode(encoded.clone()).unwrap();
        assert_eq!(decoded, events);
        assert_eq!(encode(&decoded), encoded);
        let mut sealed = events.clone();
        seal(&mut sealed);
        assert_eq!(encode(&sealed), encoded);
    }

    #[test]
    fn a_changed_event_is_not_written_as_the_bytes_it_was_read_from() {
        let mut event = decode(encode([&sample()])).unwrap().remove(0);
        event.set_id("2");
        assert_eq!(decode(encode([&event])).unwrap()[0].id(), "2");
    }

    #[test]
    fn damage_to_a_stored_batch_is_noticed() {
        let batch = encode([&sample()]);
        for level in [None, Some(1)] {
            let stored = encode_stored(&batch, level);
            assert_eq!(decode_stored(stored.clone().into()).unwrap(), [sample()]);
            for at in 0..stored.len() {
                let mut damaged = stored.clone();
                damaged[at] ^= 1;
                if let Ok(events) = decode_stored(damaged.into()) {
                    assert_eq!(events, [sample()]);
                }
            }
        }
    }

    /// A field with this wire type: a number, or bytes with their length before them.
    fn field(tag: u32, wire: u8, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_varint(u64::from(tag << 3 | u32::from(wire)), &mut out);
        match wire {
            2 => {
                encode_varint(value.len() as u64, &mut out);
                out.extend_from_slice(value);
            }
            0 => encode_varint(value.len() as u64, &mut out),
            1 => out.extend_from_slice(&[value.len() as u8; 8]),
            5 => out.extend_from_slice(&[value.len() as u8; 4]),
            _ => {}
        }
        out
    }

    #[test]
    fn a_known_field_of_another_wire_type_is_refused() {
        for wire in [0, 1, 2, 5] {
            for tag in (1..=12).chain([15]) {
                let expected = if matches!(tag, 4 | 9) { 1 } else { 2 };
                let batch = field(1, 2, &field(tag, wire, b""));
                match decode(batch.into()) {
                    Ok(_) => assert_eq!(wire, expected, "field {tag}"),
                    Err(error) => assert!(error.code() == Code::InvalidEvent && wire != expected, "{error}"),
                }
            }
            let attribute = field(1, 2, &field(12, 2, &field(2, wire, b"")));
            assert_eq!(decode(attribute.into()).is_ok(), wire == 2);
            assert_eq!(decode(field(1, wire, b"").into()).is_ok(), wire == 2);
            // A later version may have more fields.
            assert_eq!(decode(field(1, 2, &field(40, wire, b"")).into()).unwrap().len(), 1);
        }
    }

    #[test]
    fn what_only_some_decoders_read_is_refused() {
        let nested = [0x83, 0x02].repeat(99);
        let ends = [0x84, 0x02].repeat(99);
        for (what, event) in [
            ("groups", [nested, ends].concat()),
            ("a long length", b"\x0a\x81\x80\x80\x80\x80\x00x".to_vec()),
            ("a long tag", b"\x8a\x80\x80\x80\x80\x00\x01x".to_vec()),
        ] {
            let error = decode(field(1, 2, &event).into()).expect_err(what);
            assert_eq!(error.code(), Code::InvalidEvent, "{what}");
        }
    }

    fn fields(values: impl Strategy<Value = Vec<u8>> + 'static) -> impl Strategy<Value = Vec<u8>> {
        let wire = prop_oneof![8 => Just(2u8), 2 => Just(1u8), 1 => 0u8..6];
        let field = (0u32..18, wire, values).prop_map(|(tag, wire, value)| field(tag, wire, &value));
        prop::collection::vec(field, 0..5).prop_map(|fields| fields.concat())
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let attribute = fields(any::<String>().prop_map(String::into_bytes));
        prop_oneof![any::<String>().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..8), attribute]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_accepted_here_the_generated_types_accept_as_the_same(batch in fields(fields(bytes()))) {
            let Ok(events) = decode(Bytes::from(batch.clone())) else { return Ok(()) };
            let generated = v1::EventBatch::decode(batch.as_slice());
            let generated = generated.map_err(|error| TestCaseError::fail(error.to_string()))?;
            // What is written of its attributes alone is what the generated types write.
            let anew: Vec<_> = events.iter().cloned().map(|mut event| {
                event.encoded = Bytes::new();
                event
            }).collect();
            prop_assert_eq!(encode(&anew), generated.encode_to_vec());
        }
    }
}
