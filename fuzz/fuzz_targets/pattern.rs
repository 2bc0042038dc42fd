//! Filters: a pattern on the first line, an event's data on the rest. One by one, as a set and explained, they agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_hub_matcher::{Input, Matcher, Pattern, Scratch};

const ATTRIBUTES: [(&str, &str); 3] = [("topic", "model-events"), ("event", "model-ready"), ("source", "helox")];

fuzz_target!(|input: &[u8]| {
    let line = input.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let Ok(pattern) = std::str::from_utf8(line).map_err(drop).and_then(|text| Pattern::parse(text).map_err(drop))
    else {
        return;
    };
    let canonical = Pattern::parse(pattern.to_json()).expect("the canonical form is a pattern");
    assert_eq!(canonical.to_json(), pattern.to_json());

    let input = Input { attributes: &ATTRIBUTES, data: input.get(line.len() + 1..).unwrap_or_default() };
    let matches = pattern.matches(&input);
    assert_eq!(canonical.matches(&input), matches);
    assert_eq!(pattern.explain(&input).matched, matches);

    let mut matcher = Matcher::new();
    matcher.insert(1, &pattern);
    matcher.insert(2, &canonical);
    let (mut scratch, mut ids) = (Scratch::new(), Vec::new());
    matcher.matches(&input, &mut scratch, &mut ids);
    ids.sort_unstable();
    assert_eq!(ids, if matches { vec![1, 2] } else { vec![] });
});
