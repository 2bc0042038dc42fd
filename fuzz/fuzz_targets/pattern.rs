//! Filters: a pattern on the first line, an event's data on the rest. One by one, as a set, by parsed fields and explained,
//! they agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_hub_matcher::{Fields, Input, Matcher, Pattern, Scratch};

const ATTRIBUTES: [(&str, &str); 3] = [("topic", "model-events"), ("event", "model-ready"), ("source", "helox")];

fuzz_target!(|input: &[u8]| {
    let line = input.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Ok(pattern) = std::str::from_utf8(line).map_err(drop).and_then(|text| Pattern::parse(text).map_err(drop))
    else {
        return;
    };
    let canonical = Pattern::parse(pattern.to_json()).expect("the canonical form is a pattern");
    assert_eq!(canonical.to_json(), pattern.to_json());

    let data = input.get(line.len() + 1..).unwrap_or_default();
    let (input, fields) = (Input { attributes: &ATTRIBUTES, data }, Fields::from_json(data));
    let mut scratch = Scratch::new();
    let matches = pattern.matches(&input);
    assert_eq!(canonical.matches(&input), matches);
    assert_eq!(pattern.matches_fields(&ATTRIBUTES, &fields, &mut scratch), matches);
    let explained = pattern.explain(&input);
    assert_eq!((explained.matched, explained.failure.is_none()), (matches, matches));

    let mut matcher = Matcher::new();
    for id in 0..3 {
        matcher.insert(id, if id == 1 { &canonical } else { &pattern });
    }
    let snapshot = matcher.clone();
    assert!(matcher.remove(&0));
    let mut found = |matcher: &Matcher<u32>| {
        let (mut ids, mut parsed) = (Vec::new(), Vec::new());
        matcher.matches(&input, &mut scratch, &mut ids);
        matcher.matches_fields(&ATTRIBUTES, &fields, &mut scratch, &mut parsed);
        ids.sort_unstable();
        parsed.sort_unstable();
        assert_eq!(ids, parsed);
        ids
    };
    assert_eq!(found(&snapshot), if matches { vec![0, 1, 2] } else { vec![] });
    assert_eq!(found(&matcher), if matches { vec![1, 2] } else { vec![] });
    assert!(matcher.explain_all(&input).iter().all(|(_, explained)| explained.matched == matches));
});
