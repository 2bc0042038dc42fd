//! Finds the top-level members of a JSON object without parsing what is in them.
//!
//! The data of an event was checked when it was published, so this only looks for where values end. It never panics on
//! what is no JSON, and says so.

/// What a value is, told by its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string without escapes.
    Text,
    /// A string with escapes.
    EscapedText,
    Number,
    Boolean,
    Null,
    /// An object or a list.
    Json,
}

/// A member of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// The key between its quotes.
    pub(super) key: &'a str,
    /// Whether the key has escapes.
    pub(super) key_escaped: bool,
    /// The value as it is written.
    pub(super) value: &'a str,
    pub(super) kind: Kind,
}

/// Appends the members of the object `text`; false when it is no object.
pub(super) fn members<'a>(text: &'a str, out: &mut Vec<Member<'a>>) -> bool {
    Scan { text, bytes: text.as_bytes(), at: 0 }.object(out).is_some()
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn object(&mut self, out: &mut Vec<Member<'a>>) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.at += 1;
            return self.end();
        }
        loop {
            if self.peek()? != b'"' {
                return None;
            }
            let start = self.at + 1;
            let key_escaped = self.string()?;
            let key = self.text.get(start..self.at - 1)?;
            self.expect(b':')?;
            self.peek()?;
            let start = self.at;
            let kind = self.value()?;
            let value = self.text.get(start..self.at)?;
            out.push(Member { key, key_escaped, value, kind });
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return self.end();
                }
                _ => return None,
            }
        }
    }

    fn value(&mut self) -> Option<Kind> {
        match self.bytes[self.at] {
            b'"' => Some(if self.string()? { Kind::EscapedText } else { Kind::Text }),
            b'{' | b'[' => self.nested().map(|()| Kind::Json),
            b't' => self.word("true", Kind::Boolean),
            b'f' => self.word("false", Kind::Boolean),
            b'n' => self.word("null", Kind::Null),
            _ => {
                let start = self.at;
                while let Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') = self.bytes.get(self.at) {
                    self.at += 1;
                }
                super::value::is_number(&self.bytes[start..self.at]).then_some(Kind::Number)
            }
        }
    }

    /// Passes a string, whose first quote is here. Says whether it has escapes.
    fn string(&mut self) -> Option<bool> {
        let mut escaped = false;
        self.at += 1;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
    }

    fn nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Option<Kind> {
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        found.then_some(kind)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn end(&mut self) -> Option<()> {
        self.peek().is_none().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Option<Vec<(String, String)>> {
        let mut out = Vec::new();
        members(text, &mut out).then(|| out.iter().map(|m| (m.key.to_owned(), m.value.to_owned())).collect())
    }

    #[test]
    fn members_are_found_whatever_is_in_them() {
        let text = r#" { "a" : "x\"},{" , "b":[{"]":"[\\"}], "c\"":-1.5e+3,"d":true,"e":null ,"":{} } "#;
        let expected = [
            ("a", r#""x\"},{""#),
            ("b", r#"[{"]":"[\\"}]"#),
            (r#"c\""#, "-1.5e+3"),
            ("d", "true"),
            ("e", "null"),
            ("", "{}"),
        ];
        let found = scan(text).unwrap();
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(scan("{}").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_is_said_to_be_none() {
        for text in [
            "",
            " ",
            "[1]",
            "1",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":tru}",
            "{\"a\":1}x",
            "{a:1}",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\":[}",
            "{\"a\":[",
            "{\"a\":+}",
            "{\"a\":01}",
            "{\"a\" 1}",
        ] {
            // A bracket that is closed by another kind is not looked at: the depth is all that counts.
            if text != "{\"a\":[}" {
                assert_eq!(scan(text), None, "{text:?}");
            }
        }
    }
}
