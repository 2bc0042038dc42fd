//! A scanner over JSON text: checks everything, decodes only what is asked for.

use crate::number::Number;

/// The text is not JSON, or nests deeper than [`DEPTH_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// How deep a text may nest to count as JSON.
pub(crate) const DEPTH_MAX: u32 = 127;

/// The inside of a JSON text value: where it stands, and whether it has escapes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) escaped: bool,
}

/// A value without parts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scalar {
    Text(Quoted),
    Number(Number),
    True,
    False,
    Null,
}

/// Reads one JSON value from the left. After [`Broken`] its place means nothing.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to a place where a value starts.
    pub(crate) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// The next byte that is not white space, which stays unread.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<u8, Broken> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(Broken),
            }
        }
    }

    /// Whether only white space is left.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek().is_err()
    }

    /// Reads this byte if it is the next one.
    #[inline]
    pub(crate) fn take(&mut self, wanted: u8) -> Result<bool, Broken> {
        let found = self.peek()? == wanted;
        self.at += usize::from(found);
        Ok(found)
    }

    /// Reads this byte, which must be the next one.
    #[inline]
    pub(crate) fn expect(&mut self, wanted: u8) -> Result<(), Broken> {
        if self.take(wanted)? { Ok(()) } else { Err(Broken) }
    }

    /// Reads a key with its colon.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Quoted, Broken> {
        if self.peek()? != b'"' {
            return Err(Broken);
        }
        let key = self.quoted()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// After a value in an object or array: whether another follows (`,`) or it ends with `close`.
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Broken> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Broken),
        }
    }

    /// Reads a value that is no object and no array.
    pub(crate) fn scalar(&mut self) -> Result<Scalar, Broken> {
        match self.peek()? {
            b'"' => Ok(Scalar::Text(self.quoted()?)),
            b't' => self.word("true").map(|()| Scalar::True),
            b'f' => self.word("false").map(|()| Scalar::False),
            b'n' => self.word("null").map(|()| Scalar::Null),
            _ => {
                let start = self.at;
                self.number()?;
                Ok(Scalar::Number(Number::parse(&self.bytes[start..self.at])))
            }
        }
    }

    /// Checks a value of any kind and leaves it behind. `depth` is how many objects and arrays are open around it.
    pub(crate) fn skip(&mut self, depth: u32) -> Result<(), Broken> {
        // One bit for each open object (1) or array (0), the innermost lowest.
        let mut open: u128 = 0;
        let mut level = 0;
        loop {
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    if depth + level >= DEPTH_MAX {
                        return Err(Broken);
                    }
                    let (is_object, close) = if bracket == b'{' { (1, b'}') } else { (0, b']') };
                    if !self.take(close)? {
                        (open, level) = (open << 1 | is_object, level + 1);
                        if is_object == 1 {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.quoted()?;
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                _ => self.number()?,
            }
            loop {
                if level == 0 {
                    return Ok(());
                }
                let is_object = open & 1 == 1;
                if self.more(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.key()?;
                    }
                    break;
                }
                (open, level) = (open >> 1, level - 1);
            }
        }
    }

    /// The decoded text; `buffer` is used only where there are escapes.
    #[inline]
    pub(crate) fn text<'b>(&self, quoted: Quoted, buffer: &'b mut String) -> &'b str
    where
        'a: 'b,
    {
        let raw = &self.text[quoted.start..quoted.end];
        if !quoted.escaped {
            return raw;
        }
        buffer.clear();
        unescape(raw, buffer);
        buffer
    }

    #[inline]
    fn quoted(&mut self) -> Result<Quoted, Broken> {
        let start = self.at + 1;
        let (mut at, mut escaped) = (start, false);
        loop {
            while let Some(word) = self.bytes[at..].first_chunk::<8>() {
                let special = special_bytes(u64::from_le_bytes(*word));
                if special != 0 {
                    at += special.trailing_zeros() as usize / 8;
                    break;
                }
                at += 8;
            }
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Quoted { start, end: at, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at + 1)?;
                }
                Some(0x20..) => at += 1,
                _ => return Err(Broken),
            }
        }
    }

    /// Checks what follows a backslash, and says where that ends.
    fn escape(&self, at: usize) -> Result<usize, Broken> {
        match self.bytes.get(at) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
            Some(b'u') => match self.bytes.get(at + 1..at + 5) {
                Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(at + 5),
                _ => Err(Broken),
            },
            _ => Err(Broken),
        }
    }

    #[inline]
    fn word(&mut self, word: &str) -> Result<(), Broken> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(Broken)
    }

    fn number(&mut self) -> Result<(), Broken> {
        self.at += usize::from(self.bytes.get(self.at) == Some(&b'-'));
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(Broken) } else { Ok(()) }
    }
}

/// The high bit of the first byte that ends a run of plain text (a quote, a backslash, a control character) is set.
/// Bits above it may be wrong.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = is_zero(word ^ (ONES * b'"' as u64));
    let backslash = is_zero(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & (ONES * 0x80)
}

/// Appends the meaning of a JSON text whose escapes have been checked. Half a surrogate pair becomes U+FFFD.
pub(crate) fn unescape(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (kind, after) = (rest.as_bytes()[at + 1], &rest[at + 2..]);
        rest = after;
        out.push(match kind {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = hex(&rest[..4]);
                rest = &rest[4..];
                let low = rest.strip_prefix("\\u").map(|more| hex(&more[..4]));
                match (unit, low) {
                    (0xD800..0xDC00, Some(low @ 0xDC00..0xE000)) => {
                        rest = &rest[6..];
                        let code = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                    }
                    _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            other => char::from(other),
        });
    }
    out.push_str(rest);
}

fn hex(digits: &str) -> u32 {
    u32::from_str_radix(digits, 16).unwrap_or(0xFFFD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_json(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip(0).is_ok() && scanner.is_at_end()
    }

    #[test]
    fn what_is_json_is_what_serde_json_takes_for_json() {
        let texts = [
            "{}",
            "[]",
            "0",
            "-0",
            "01",
            "1.",
            ".5",
            "1.5e",
            "1e+5",
            "-",
            "--1",
            "1e5x",
            "\"\"",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12ag\"",
            "\"\\ud83d\\ude00\"",
            "\"tab\there\"",
            "\"\u{1}\"",
            "\"ü\"",
            "[1,2",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\":1,\"b\":[{}]}",
            "{a:1}",
            "tru",
            "true",
            "nullx",
            "null",
            " [ 1 , 2 ] ",
            "[1 2]",
            "{\"a\":1}{",
            "",
            " ",
            "[[[[]]],{}]",
            "\"0123456\\\\89abcdef\"",
            "\"01234567\u{7f}9abcdef\"",
            "[}",
            "{]",
            "+1",
            "1E-7",
            "\"\\\"",
            "\"aaaaaaa\\\"",
            "[\"\\/\\b\\f\\n\\r\\t\"]",
            "NaN",
            "1_0",
            "{\"a\":1 \"b\":2}",
            "[1]]",
        ];
        for text in texts {
            assert_eq!(is_json(text), serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn too_deep_is_not_json() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(&nested(DEPTH_MAX as usize)));
        assert!(!is_json(&nested(DEPTH_MAX as usize + 1)));
        assert!(!is_json(&"[{\"a\":".repeat(100_000)));
    }

    #[test]
    fn escapes_are_decoded_and_half_surrogates_replaced() {
        for (raw, meaning) in [
            (r#"a\"b\\c\/\b\f\n\r\t"#, "a\"b\\c/\u{8}\u{c}\n\r\t"),
            (r"\u00fc\u4e2d", "ü中"),
            (r"\ud83d\ude00!", "😀!"),
            (r"\ud83d!", "\u{FFFD}!"),
            (r"\ude00\u0041", "\u{FFFD}A"),
            (r"\ud83d\ud83d\ude00", "\u{FFFD}😀"),
        ] {
            let mut out = String::new();
            unescape(raw, &mut out);
            assert_eq!(out, meaning);
        }
    }
}
