//! Texts: case folding and wildcards.

/// The text without differences of case: each character upper-cased, then lower-cased, so that `ß`, `SS` and `ss` are
/// one, and so are the three sigmas. Character by character: a prefix of a text is a prefix of its folded text.
pub(crate) fn fold(text: &str, out: &mut String) {
    if text.is_ascii() {
        out.push_str(text);
        out.make_ascii_lowercase();
        return;
    }
    out.extend(text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase));
}

/// As [`fold`], as a text of its own.
pub(crate) fn folded(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len());
    fold(text, &mut out);
    out.into_boxed_str()
}

/// A text in which `*` stands for any text, also the empty one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Wildcard {
    /// As written, with its escapes.
    written: Box<str>,
    /// The literal texts around the stars: one more than there are stars.
    parts: Box<[Box<str>]>,
}

impl Wildcard {
    /// Reads the written form: `*` is a star, `\*` and `\\` are themselves.
    pub(crate) fn parse(written: &str) -> Result<Self, &'static str> {
        let (mut parts, mut part) = (Vec::new(), String::new());
        let mut chars = written.chars();
        let mut after_star = false;
        while let Some(char) = chars.next() {
            match char {
                '*' if after_star => return Err("two `*` in a row mean the same as one: write one"),
                '*' => parts.push(std::mem::take(&mut part).into_boxed_str()),
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '\\')) => part.push(escaped),
                    _ => return Err("a backslash must be followed by `*` or by another backslash"),
                },
                _ => part.push(char),
            }
            after_star = char == '*';
        }
        parts.push(part.into_boxed_str());
        Ok(Self { written: written.into(), parts: parts.into() })
    }

    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    pub(crate) fn parts(&self) -> &[Box<str>] {
        &self.parts
    }

    /// What it may cost: the literal bytes, once for each part that they may have to be looked for after.
    pub(crate) fn complexity(&self) -> usize {
        self.parts.len() * self.parts.iter().map(|part| part.len()).sum::<usize>().max(1)
    }

    pub(crate) fn is_match(&self, text: &str) -> bool {
        matches_parts(&self.parts, text.as_bytes())
    }
}

/// Whether `parts`, with anything between them, make up the whole `text`. The leftmost place for each part is as good as
/// any other, so nothing is ever tried twice.
fn matches_parts(parts: &[Box<str>], text: &[u8]) -> bool {
    let Some((first, others)) = parts.split_first() else { return false };
    let Some((last, middle)) = others.split_last() else { return first.as_bytes() == text };
    let Some(mut rest) = text.strip_prefix(first.as_bytes()).and_then(|rest| rest.strip_suffix(last.as_bytes())) else {
        return false;
    };
    for part in middle {
        match find(part.as_bytes(), rest) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn find(needle: &[u8], haystack: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
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
