//! The index, the evaluation of one pattern and its explanation agree with the oracle, whatever the patterns and events.

#![allow(clippy::unwrap_used, reason = "helpers of tests are no tests to clippy")]

mod oracle;

use std::collections::BTreeSet;

use proptest::prelude::*;
use synapse_hub_matcher::{Fields, Input, Matcher, Pattern, Scratch};

/// Few keys and values, so that patterns and events meet.
const KEYS: [&str; 9] = ["a", "b", "c", "data", "event", "source", "a.b", "data.a", "é"];
const TEXTS: [&str; 22] = [
    "",
    "a",
    "b",
    "ab",
    "abc",
    "abab",
    "B",
    "AB",
    "aBc",
    "ß",
    "SS",
    "ss",
    "ſ",
    "K",
    "straße",
    "中文",
    "😀a",
    "10.0.0.1",
    "10.0.0.7",
    "::ffff:10.0.0.1",
    "2001:db8::1",
    "a*b\\c",
];
const NUMBERS: [&str; 20] = [
    "0",
    "-0",
    "0.0",
    "1",
    "1.0",
    "10e-1",
    "2",
    "3.0e2",
    "300",
    "300.00",
    "-1",
    "-1.5",
    "0.1",
    "0.10000000000000001",
    "1e400",
    "9007199254740993",
    "9007199254740992",
    "18446744073709551616",
    "1E+1",
    "10",
];

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(&TEXTS[..]).prop_map(quoted),
        1 => "[ab*\\\\é😀\"]{0,5}".prop_map(|text| quoted(&text)),
        1 => prop::sample::select(vec![r#""\u0061b""#, r#""\ud83d\ude00a""#, r#""a\u002a\b""#]).prop_map(str::to_owned),
    ]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(&NUMBERS[..]).prop_map(str::to_owned),
        1 => (-3i32..4, 0u32..100, -3i32..4).prop_map(|(whole, fraction, exponent)| format!("{whole}.{fraction}e{exponent}")),
        1 => any::<f64>().prop_filter("JSON has no other numbers", |number| number.is_finite()).prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
    ]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => text(),
        3 => number(),
        1 => prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned),
    ]
}

fn list(items: Vec<String>) -> String {
    format!("[{}]", items.join(","))
}

fn object(entries: &[(&str, String)]) -> String {
    let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{} : {value}", quoted(key))).collect();
    format!("{{{}}}", entries.join(", "))
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![5 => prop::sample::select(&KEYS[..3]), 2 => prop::sample::select(&KEYS[..])]
}

/// Data: mostly objects, with arrays and objects in each other, repeated keys and dotted keys.
fn data() -> impl Strategy<Value = String> {
    let inner = scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(list),
            prop::collection::vec((key(), inner), 0..4).prop_map(|entries| object(&entries)),
        ]
    });
    prop_oneof![
        12 => prop::collection::vec((key(), inner.clone()), 0..5).prop_map(|entries| object(&entries)),
        1 => inner,
        1 => prop::sample::select(vec!["", "  ", "{\"a\":1", "{\"a\":1}]", "nul", "{\"a\":\"\\x\"}"]).prop_map(str::to_owned),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let attribute = |name: &'static str| {
        prop::option::of(prop::sample::select(&TEXTS[1..])).prop_map(move |text| text.map(|text| (name, text)))
    };
    (attribute("event"), attribute("source"), attribute("topic"))
        .prop_map(|(event, source, topic)| [event, source, topic].into_iter().flatten().collect())
}

fn wildcard() -> impl Strategy<Value = String> {
    let part =
        || prop_oneof![Just(""), Just("a"), Just("b"), Just("ab"), Just("c"), Just("é"), Just("\\*"), Just("\\\\")];
    (
        part(),
        prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("ab"), Just("😀")], 0..3),
        part(),
        any::<bool>(),
    )
        .prop_map(|(first, middle, last, stars)| {
            let parts: Vec<&str> = [first].into_iter().chain(middle).chain([last]).collect();
            let written = if stars { parts.join("*") } else { parts.concat() };
            quoted(&written)
        })
}

fn range() -> impl Strategy<Value = String> {
    let low = prop::sample::select(vec![">", ">="]);
    let high = prop::sample::select(vec!["<", "<="]);
    let numbers = || prop::sample::select(&NUMBERS[..]);
    prop_oneof![
        number().prop_map(|number| format!(r#"["=",{number}]"#)),
        (low.clone(), number()).prop_map(|(sign, number)| format!(r#"["{sign}",{number}]"#)),
        (high.clone(), number()).prop_map(|(sign, number)| format!(r#"["{sign}",{number}]"#)),
        (low, numbers(), high, numbers())
            .prop_map(|(low, one, high, other)| format!(r#"["{low}",{one},"{high}",{other}]"#)),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![text(), prop::collection::vec(text(), 1..3).prop_map(list)]
}

fn test() -> impl Strategy<Value = String> {
    let operator = |name: &'static str, operand: BoxedStrategy<String>| {
        operand.prop_map(move |operand| format!(r#"{{"{name}":{operand}}}"#))
    };
    let blocks =
        vec!["10.0.0.0/24", "10.0.0.1/32", "0.0.0.0/0", "10.0.0.4/30", "2001:db8::/32", "::/0", "::ffff:10.0.0.0/120"];
    prop_oneof![
        8 => scalar(),
        1 => operator("prefix", text().boxed()),
        1 => operator("suffix", text().boxed()),
        1 => operator("equals-ignore-case", text().boxed()),
        1 => operator("prefix", operator("equals-ignore-case", text().boxed()).boxed()),
        1 => operator("suffix", operator("equals-ignore-case", text().boxed()).boxed()),
        2 => operator("wildcard", wildcard().boxed()),
        2 => operator("numeric", range().boxed()),
        1 => operator("cidr", prop::sample::select(blocks).prop_map(quoted).boxed()),
        1 => operator("anything-but", texts().boxed()),
        1 => operator("anything-but", prop::collection::vec(number(), 1..3).prop_map(list).boxed()),
        1 => operator("anything-but", operator("prefix", texts().boxed()).boxed()),
        1 => operator("anything-but", operator("suffix", texts().boxed()).boxed()),
        1 => operator("anything-but", operator("equals-ignore-case", texts().boxed()).boxed()),
        1 => operator("anything-but", operator("wildcard", wildcard().boxed()).boxed()),
        1 => Just(r#"{"exists":true}"#.to_owned()),
        2 => Just(r#"{"exists":false}"#.to_owned()),
    ]
}

/// A pattern; a few of these cannot be right, and are left out.
fn pattern() -> impl Strategy<Value = String> {
    let field = prop_oneof![3 => prop::collection::vec(test(), 1..4).prop_map(list), 1 => scalar()];
    let entries = |value: BoxedStrategy<String>, sizes| prop::collection::vec((key(), value), sizes);
    let inner = field.prop_recursive(3, 12, 3, move |inner| {
        let member = || entries(inner.clone().boxed(), 1..3).prop_map(|entries| object(&entries));
        prop_oneof![
            3 => member(),
            1 => prop::collection::vec(member(), 2..4).prop_map(|members| format!(r#"{{"$or":{}}}"#, list(members))),
        ]
    });
    let top = entries(inner.clone().boxed(), 1..4);
    let or = prop::collection::vec(entries(inner.boxed(), 1..3).prop_map(|entries| object(&entries)), 2..4);
    (top, prop::option::weighted(0.3, or)).prop_map(|(entries, or)| {
        let mut entries = entries;
        entries.extend(or.map(|members| ("$or", list(members))));
        object(&entries)
    })
}

fn patterns(sizes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(String, Pattern)>> {
    prop::collection::vec(pattern(), sizes).prop_map(|patterns| {
        patterns.into_iter().filter_map(|json| Pattern::parse(&json).ok().map(|pattern| (json, pattern))).collect()
    })
}

struct Owned<'a>(&'a [(&'static str, &'static str)]);

impl synapse_hub_matcher::Attributes for Owned<'_> {
    fn get(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, text)| std::borrow::Cow::Borrowed(*text))
    }
}

/// The ids that match, by the data's bytes; those by its parsed fields must be the same.
fn matched(matcher: &Matcher<usize>, input: &Input<'_>, scratch: &mut Scratch) -> Vec<usize> {
    let (mut out, mut parsed) = (Vec::new(), Vec::new());
    matcher.matches(input, scratch, &mut out);
    matcher.matches_fields(input.attributes, &Fields::from_json(input.data), scratch, &mut parsed);
    out.sort_unstable();
    parsed.sort_unstable();
    assert_eq!(out, parsed, "by bytes and by fields, {input:?}");
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn everything_agrees_with_the_oracle(
        patterns in patterns(1..40),
        events in prop::collection::vec((attributes(), data()), 1..6),
        removed in prop::collection::btree_set(0usize..40, 0..20),
        again in prop::collection::btree_set(0usize..40, 0..10),
        shared in 1usize..4,
    ) {
        let mut matcher = Matcher::new();
        let mut scratch = Scratch::new();
        // Several patterns may be under one id.
        for (index, (_, pattern)) in patterns.iter().enumerate() {
            matcher.insert(index / shared, pattern);
        }
        let before = matcher.clone();
        for id in &removed {
            prop_assert_eq!(matcher.remove(id), id * shared < patterns.len());
        }
        let reduced = matcher.clone();
        // What was removed comes back, now with one pattern.
        let back: Vec<usize> = again.intersection(&removed).copied().filter(|id| id * shared < patterns.len()).collect();
        for &id in &back {
            matcher.insert(id, &patterns[id * shared].1);
        }
        prop_assert_eq!(matcher.ids().collect::<BTreeSet<_>>().len(), matcher.len());
        for (attributes, data) in &events {
            let owned = Owned(attributes);
            let input = Input { attributes: &owned, data: data.as_bytes() };
            let mut all = BTreeSet::new();
            for (index, (json, pattern)) in patterns.iter().enumerate() {
                let wanted = oracle::matches(json, attributes, data);
                prop_assert_eq!(pattern.matches(&input), wanted, "pattern {} attributes {:?} data {}", json, attributes, data);
                prop_assert_eq!(pattern.explain(&input).failure.is_none(), wanted);
                let parsed = pattern.matches_fields(&owned, &Fields::from_json(data.as_bytes()), &mut scratch);
                prop_assert_eq!(parsed, wanted, "by fields: pattern {} attributes {:?} data {}", json, attributes, data);
                if wanted {
                    all.insert(index / shared);
                }
            }
            let all: Vec<usize> = all.into_iter().collect();
            let left: Vec<usize> = all.iter().copied().filter(|id| !removed.contains(id)).collect();
            let shown: Vec<&String> = patterns.iter().map(|(json, _)| json).collect();
            prop_assert_eq!(matched(&before, &input, &mut scratch), all, "data {} attributes {:?} patterns {:?}", data, attributes, &shown);
            prop_assert_eq!(matched(&reduced, &input, &mut scratch), &left[..], "after removal: data {} patterns {:?}", data, &shown);
            let mut now: BTreeSet<usize> = left.into_iter().collect();
            now.extend(back.iter().filter(|&&id| patterns[id * shared].1.matches(&input)));
            let now: Vec<usize> = now.into_iter().collect();
            prop_assert_eq!(matched(&matcher, &input, &mut scratch), &now[..], "after insertion: data {} patterns {:?}", data, &shown);
            for (id, explanation) in matcher.explain_all(&input) {
                prop_assert_eq!(explanation.matched, now.contains(&id), "explain {} data {} patterns {:?}", id, data, &shown);
                prop_assert_eq!(explanation.failure.is_none(), explanation.matched);
            }
        }
    }

    #[test]
    fn the_canonical_form_means_the_same(patterns in patterns(1..10), events in prop::collection::vec((attributes(), data()), 1..6)) {
        for (json, pattern) in &patterns {
            let again = Pattern::parse(pattern.to_json()).expect("the canonical form is a pattern");
            prop_assert_eq!(again.to_json(), pattern.to_json(), "{}", json);
            for (attributes, data) in &events {
                let owned = Owned(attributes);
                let input = Input { attributes: &owned, data: data.as_bytes() };
                prop_assert_eq!(again.matches(&input), pattern.matches(&input), "{} data {}", pattern, data);
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_of_patterns_panic(text in prop_oneof!["\\PC*", "[\\[\\]{}:,\"ab$or0-9.*\\\\ -]{0,40}"]) {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert!(Pattern::parse(pattern.to_json()).is_ok());
        }
    }

    #[test]
    fn no_bytes_make_matching_panic(
        patterns in patterns(1..8),
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "[\\[\\]{}:,\"abc0-9.eE\\\\u -]{0,60}".prop_map(String::into_bytes),
            (data(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(data, at, byte)| {
                let mut bytes = data.into_bytes();
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            }),
        ],
    ) {
        let input = Input { attributes: &(), data: &bytes };
        let mut matcher = Matcher::new();
        for (index, (_, pattern)) in patterns.iter().enumerate() {
            matcher.insert(index, pattern);
        }
        let out = matched(&matcher, &input, &mut Scratch::new());
        let one_by_one: Vec<usize> = (0..patterns.len()).filter(|&index| patterns[index].1.matches(&input)).collect();
        prop_assert_eq!(&out, &one_by_one);
        // Half a surrogate pair is JSON for the crate but no text for serde_json, so the oracle has nothing to say on it.
        let text = std::str::from_utf8(&bytes).unwrap_or("not JSON");
        if oracle::Json::parse(text).is_some() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
            let wanted: Vec<usize> = (0..patterns.len()).filter(|&index| oracle::matches(&patterns[index].0, &[], text)).collect();
            prop_assert_eq!(out, wanted);
        }
    }
}

/// More with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256)
}
