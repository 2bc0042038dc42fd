//! Texts: case folding and wildcards.

/// The text without differences of case: each character upper-cased, then lower-cased, so that `ß`, `SS` and `ss` are
/// one, and so are the three sigmas. Character by character: a prefix of a text is a prefix of its folded text.
pub(crate) fn fold(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.push_str(text);
        out.make_ascii_lowercase();
        return;
    }
    out.extend(folds(text));
}

/// As [`fold`], as a text of its own.
pub(crate) fn folded(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len());
    fold(text, &mut out);
    out.into_boxed_str()
}

/// Whether the text, folded, is this folded text.
pub(crate) fn is_folded(text: &str, folded: &str) -> bool {
    if text.is_ascii() { text.eq_ignore_ascii_case(folded) } else { folds(text).eq(folded.chars()) }
}

/// Whether the text, folded, begins with this folded text.
pub(crate) fn starts_with_folded(text: &str, folded: &str) -> bool {
    let mut chars = folds(text);
    folded.chars().all(|wanted| chars.next() == Some(wanted))
}

/// Whether the text, folded, ends with this folded text.
pub(crate) fn ends_with_folded(text: &str, folded: &str) -> bool {
    let mut chars = text
        .chars()
        .rev()
        .flat_map(|char| char::to_uppercase(char).rev().flat_map(|char| char::to_lowercase(char).rev()));
    folded.chars().rev().all(|wanted| chars.next() == Some(wanted))
}

fn folds(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// The symbol of a star among the bytes of a wildcard; no byte of UTF-8 is this.
pub(crate) const STAR: u8 = 0xFF;

/// A text in which `*` stands for any text, also the empty one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Wildcard {
    /// As written, with its escapes.
    written: Box<str>,
    /// The bytes without escapes, with [`STAR`] for each star.
    symbols: Box<[u8]>,
}

impl Wildcard {
    /// Reads the written form: `*` is a star, `\*` and `\\` are themselves.
    pub(crate) fn parse(written: &str) -> Result<Self, &'static str> {
        let mut symbols = Vec::with_capacity(written.len());
        let mut bytes = written.bytes();
        while let Some(byte) = bytes.next() {
            symbols.push(match byte {
                b'*' if symbols.last() == Some(&STAR) => {
                    return Err("two `*` in a row mean the same as one: write one");
                }
                b'*' => STAR,
                b'\\' => match bytes.next() {
                    Some(escaped @ (b'*' | b'\\')) => escaped,
                    _ => return Err("a backslash must be followed by `*` or by another backslash"),
                },
                _ => byte,
            });
        }
        Ok(Self { written: written.into(), symbols: symbols.into() })
    }

    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    pub(crate) fn symbols(&self) -> &[u8] {
        &self.symbols
    }

    /// What it may cost: its bytes, times one more than its stars.
    pub(crate) fn complexity(&self) -> usize {
        let stars = self.symbols.iter().filter(|&&symbol| symbol == STAR).count();
        (stars + 1) * (self.symbols.len() - stars).max(1)
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        matches_symbols(&self.symbols, text.as_bytes())
    }
}

/// Whether the symbols, with anything for each star, make up the whole text. The leftmost place for each part between two
/// stars is as good as any other, so nothing is ever tried twice.
pub(crate) fn matches_symbols(symbols: &[u8], text: &[u8]) -> bool {
    let Some(first_star) = memchr::memchr(STAR, symbols) else { return symbols == text };
    let last_star = memchr::memrchr(STAR, symbols).unwrap_or(first_star);
    let (first, last) = (&symbols[..first_star], &symbols[last_star + 1..]);
    let Some(mut rest) = text.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    if first_star == last_star {
        return true;
    }
    for part in symbols[first_star + 1..last_star].split(|&symbol| symbol == STAR) {
        match memchr::memmem::find(rest, part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_the_whole_text() {
        for (wildcard, yes, no) in [
            ("", vec![""], vec!["a"]),
            ("*", vec!["", "a", "*", "中文"], vec![]),
            ("abc", vec!["abc"], vec!["ab", "abcd", ""]),
            ("a*", vec!["a", "ab", "a*"], vec!["", "ba"]),
            ("*a", vec!["a", "ba", "aaa"], vec!["", "ab"]),
            ("a*b", vec!["ab", "axb", "abab"], vec!["a", "b", "abx", "ba"]),
            ("aa*aa", vec!["aaaa", "aaaaa"], vec!["aaa", "aa"]),
            ("*ab*ab*", vec!["abab", "xabyabz", "aabab"], vec!["ab", "aba"]),
            ("a*b*c", vec!["abc", "axbxc", "abbcc", "abcbc"], vec!["acb", "ac"]),
            (r"a\*b", vec!["a*b"], vec!["axb", "ab"]),
            (r"\\*", vec!["\\", "\\x"], vec!["x", ""]),
            ("*ü*", vec!["für", "ü"], vec!["fur"]),
        ] {
            let parsed = Wildcard::parse(wildcard).unwrap();
            for text in yes {
                assert!(parsed.is_match(text), "{wildcard} should match {text}");
            }
            for text in no {
                assert!(!parsed.is_match(text), "{wildcard} should not match {text}");
            }
        }
    }

    #[test]
    fn wildcards_that_cannot_be_right_are_refused() {
        for wildcard in ["**", "a**b", r"\a", r"a\", r"*\n"] {
            assert!(Wildcard::parse(wildcard).is_err(), "{wildcard}");
        }
        assert!(Wildcard::parse(r"\**").is_ok(), "an escaped star and a star");
    }

    #[test]
    fn folding_is_blind_to_case_in_every_script() {
        for (one, other) in
            [("HeLLo", "hEllO"), ("STRASSE", "straße"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("ÄÖÜ", "äöü"), ("K", "k")]
        {
            assert_eq!(folded(one), folded(other));
        }
        assert_ne!(folded("a"), folded("ä"));
    }
}
