//! Checks of JSON text that comes from outside, before anything walks it.

use serde::de::{Deserializer as _, IgnoredAny};

use crate::{Code, Error, Result};

/// Checks that `text` is one JSON value that nests at most `depth_max` deep.
///
/// # Errors
/// `invalid_json` with the place, `json_too_deep`.
pub fn check(text: &[u8], depth_max: usize) -> Result<()> {
    check_depth(text, depth_max)?;
    // The parser does not look at the bytes of texts that it passes over.
    let text = str::from_utf8(text).map_err(|error| Error::new(Code::InvalidJson, format!("not JSON: {error}")))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_ignored_any(IgnoredAny).and_then(|_| deserializer.end()).map_err(|error| invalid(&error))
}

/// Checks only the depth. Fast when the text cannot be too deep, which is nearly always.
///
/// # Errors
/// `json_too_deep`.
pub fn check_depth(text: &[u8], depth_max: usize) -> Result<()> {
    let openings = text.iter().filter(|&&byte| byte == b'{' || byte == b'[').count();
    if openings <= depth_max {
        return Ok(());
    }
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(Error::new(
                        Code::JsonTooDeep,
                        format!(
                            "the JSON nests deeper than {depth_max} levels (`limits.json_depth`); flatten it, or send the deep part as text"
                        ),
                    ));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// An `invalid_json` error that says where.
pub fn invalid(error: &serde_json::Error) -> Error {
    Error::new(Code::InvalidJson, format!("not JSON: {error}"))
}

/// Whether the JSON text is an object, told by its first character.
pub fn is_object(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Makes JSON text one line. A line break in it is white space: within a string it would be escaped.
pub fn join_lines(text: &mut [u8]) {
    for byte in text {
        // Without a branch, so that many bytes are looked at at once.
        *byte = if matches!(*byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
}

/// Appends `text` as a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing text to a vector cannot fail.
        let _ = serde_json::to_writer(out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_utf_8() {
        for text in [b"\"\xff\"".as_slice(), b"{\"a\":\"\xc3\"}", b"{\"\xed\xa0\x80\":1}"] {
            assert_eq!(check(text, 8).unwrap_err().code(), Code::InvalidJson);
        }
        check("{\"ü\":\"😀\"}".as_bytes(), 8).unwrap();
    }

    #[test]
    fn depth_is_counted_outside_of_texts() {
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert_eq!(check(deep.as_bytes(), 64).unwrap_err().code(), Code::JsonTooDeep);
        assert!(check(("[".repeat(64) + &"]".repeat(64)).as_bytes(), 64).is_ok());
        let text = format!("{:?}", "[".repeat(100));
        assert!(check(text.as_bytes(), 64).is_ok());
        assert_eq!(check(b"{} x", 64).unwrap_err().code(), Code::InvalidJson);
        assert_eq!(check(b"", 64).unwrap_err().code(), Code::InvalidJson);
    }
}
