//! Writes the texts of an entry as JSON values.

use base64::Engine as _;
use serde::de::{Deserializer as _, IgnoredAny};
use synapse_hub_core::{fields::FieldKind, json};

/// How deep the JSON text within an entry of others may nest to be taken as JSON.
const FOREIGN_DEPTH_MAX: usize = 64;

/// Appends a JSON string.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    json::write_string(text, out);
}

/// Appends `"name":` for a member, after a comma unless it is the first of the object that starts at `object`.
pub(super) fn write_key(name: &str, object: usize, out: &mut Vec<u8>) {
    if out.len() > object + 1 {
        out.push(b',');
    }
    write_text(name, out);
    out.push(b':');
}

/// Appends a member whose value is not UTF-8, as base64 under another name.
pub(super) fn write_binary(name: &str, value: &[u8], object: usize, out: &mut Vec<u8>) {
    write_key(&format!("{name}_base64"), object, out);
    out.push(b'"');
    out.extend_from_slice(encode_base64(value).as_bytes());
    out.push(b'"');
}

pub(super) fn encode_base64(value: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(value)
}

pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// Appends what others wrote as text, as what it stands for. What does not look like its type stays text.
pub(super) fn write_foreign(text: &str, kind: Option<FieldKind>, out: &mut Vec<u8>) {
    let plain = match kind {
        None | Some(FieldKind::Text) => return write_text(text, out),
        // What a TypeScript client writes for a value that it does not have.
        Some(_) if text.is_empty() || text == "undefined" => "null",
        Some(FieldKind::Number) if is_number(text.as_bytes()) => text,
        Some(FieldKind::Boolean) if matches!(text, "true" | "True") => "true",
        Some(FieldKind::Boolean) if matches!(text, "false" | "False") => "false",
        Some(FieldKind::Json) if json::check(text.as_bytes(), FOREIGN_DEPTH_MAX).is_ok() => text.trim(),
        Some(_) => return write_text(text, out),
    };
    out.extend_from_slice(plain.as_bytes());
}

/// Appends what Synapse wrote as text. It is checked all the same, because anybody can write to a stream.
pub(super) fn write_own(text: &str, kind: u8, out: &mut Vec<u8>) {
    let fits = match kind {
        b'n' => is_number(text.as_bytes()),
        b'b' => text == "true" || text == "false",
        b'j' => is_json(text),
        _ => false,
    };
    if fits { out.extend_from_slice(text.as_bytes()) } else { write_text(text, out) }
}

/// Whether it is one JSON value. The depth does not matter: nothing here descends into it.
pub(super) fn is_json(text: &str) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_ignored_any(IgnoredAny).and_then(|_| deserializer.end()).is_ok()
}

/// Whether it is a number as JSON writes it.
pub(super) fn is_number(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = rest.split_at(digits(rest));
    if whole.is_empty() || whole.len() > 1 && whole[0] == b'0' {
        return false;
    }
    let Some(rest) = fraction(rest) else { return false };
    match rest {
        [] => true,
        [b'e' | b'E', rest @ ..] => {
            let rest = rest.strip_prefix(b"+").or(rest.strip_prefix(b"-")).unwrap_or(rest);
            !rest.is_empty() && digits(rest) == rest.len()
        }
        _ => false,
    }
}

fn fraction(text: &[u8]) -> Option<&[u8]> {
    let Some(rest) = text.strip_prefix(b".") else { return Some(text) };
    let count = digits(rest);
    (count > 0).then(|| &rest[count..])
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(text: &str, kind: Option<FieldKind>) -> String {
        let mut out = Vec::new();
        write_foreign(text, kind, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn texts_become_what_is_known_of_them_and_are_never_guessed() {
        use FieldKind::{Boolean, Json, Number, Text};
        for (text, kind, expected) in [
            ("1.0", None, "\"1.0\""),
            ("", None, "\"\""),
            ("undefined", None, "\"undefined\""),
            ("true", Some(Text), "\"true\""),
            ("1.0", Some(Number), "1.0"),
            ("123456789012345678901234567890", Some(Number), "123456789012345678901234567890"),
            ("", Some(Number), "null"),
            ("undefined", Some(Number), "null"),
            ("nan", Some(Number), "\"nan\""),
            ("1_000", Some(Number), "\"1_000\""),
            ("True", Some(Boolean), "true"),
            ("false", Some(Boolean), "false"),
            ("yes", Some(Boolean), "\"yes\""),
            ("{\"a\": [1]}", Some(Json), "{\"a\": [1]}"),
            ("{'a': 1}", Some(Json), "\"{'a': 1}\""),
            ("", Some(Json), "null"),
        ] {
            assert_eq!(foreign(text, kind), expected, "{text:?} {kind:?}");
        }
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert!(foreign(&deep, Some(Json)).starts_with('"'));
    }

    #[test]
    fn numbers_are_what_json_calls_numbers() {
        for text in ["0", "-0", "10", "1.5", "-1.50", "1e5", "1E-5", "0.1e+5"] {
            assert!(is_number(text.as_bytes()), "{text}");
        }
        for text in ["", "-", "01", "1.", ".5", "+1", "1e", "1e+", "1.5.5", "NaN", "0x1", "1 ", "--1", "1e5.5"] {
            assert!(!is_number(text.as_bytes()), "{text}");
        }
    }
}
