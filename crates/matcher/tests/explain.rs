//! An explanation names the first predicate that failed: the path, what was wanted there, and what was seen.

use synapse_hub_matcher::{Input, Matcher, Pattern};

/// Pattern, data, and of the failure: path, wanted, seen, and a part of the reason.
type Case = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, &'static str);

const CASES: &[Case] = &[
    (r#"{"a":"x"}"#, r#"{"a":"y"}"#, "a", r#"["x"]"#, Some(r#""y""#), "satisfies none"),
    (r#"{"a":"x"}"#, r#"{"b":"x"}"#, "a", r#"["x"]"#, None, "has no value there"),
    (r#"{"a":"x"}"#, "no json", "a", r#"["x"]"#, None, "has no value there"),
    (r#"{"a":5}"#, r#"{"a":"5"}"#, "a", "[5]", Some(r#""5""#), "satisfies none"),
    (r#"{"b":1,"a":2}"#, r#"{"a":3,"b":4}"#, "b", "[1]", Some("4"), "satisfies none"),
    (r#"{"b":1,"a":2}"#, r#"{"a":3,"b":1}"#, "a", "[2]", Some("3"), "satisfies none"),
    (r#"{"a":{"b":[{"prefix":"x"}]}}"#, r#"{"a":{"b":"yx"}}"#, "a.b", r#"[{"prefix":"x"}]"#, Some(r#""yx""#), "none"),
    (
        r#"{"a":[{"numeric":[">",0,"<=",5]}]}"#,
        r#"{"a":[7,8.50]}"#,
        "a",
        r#"[{"numeric":[">",0,"<=",5]}]"#,
        Some("[7,8.5]"),
        "no value there",
    ),
    (r#"{"a":[{"anything-but":"x"}]}"#, r#"{"a":"x"}"#, "a", r#"[{"anything-but":["x"]}]"#, Some(r#""x""#), "none"),
    (r#"{"a":[{"anything-but":"x"}]}"#, "{}", "a", r#"[{"anything-but":["x"]}]"#, None, "has no value there"),
    (r#"{"a":[{"exists":false}]}"#, r#"{"a":null}"#, "a", r#"[{"exists":false}]"#, Some("null"), "has a value there"),
    (r#"{"a":[{"exists":true}]}"#, r#"{"a":{"b":1}}"#, "a", r#"[{"exists":true}]"#, None, "has no value there"),
    (r#"{"i":{"a":1,"b":2}}"#, r#"{"i":[{"a":1},{"b":2}]}"#, "i.a, i.b", "", None, "no one element"),
];

#[test]
fn it_names_the_path_the_wanted_and_the_seen_value() {
    for &(json, data, path, wanted, seen, reason) in CASES {
        let pattern = Pattern::parse(json).unwrap();
        let mut matcher = Matcher::new();
        matcher.insert('x', &pattern);
        let input = Input { attributes: &(), data: data.as_bytes() };
        for explanation in [pattern.explain(&input), matcher.explain(&'x', &input).unwrap()] {
            assert!(!explanation.matched, "{json} {data}");
            let failure = explanation.failure.unwrap();
            assert_eq!((failure.path.as_str(), failure.seen.as_deref()), (path, seen), "{json} {data}");
            assert!(failure.wanted.starts_with(wanted), "{json} {data}: {}", failure.wanted);
            assert!(failure.reason.contains(reason), "{json} {data}: {}", failure.reason);
        }
    }
}

#[test]
fn of_an_or_every_member_says_what_failed() {
    let pattern = Pattern::parse(r#"{"a":1,"$or":[{"b":2},{"c":{"d":[{"suffix":"x"}]}}]}"#).unwrap();
    let explanation = pattern.explain(&Input { attributes: &(), data: br#"{"a":1,"b":3}"# });
    let failure = explanation.failure.unwrap();
    assert_eq!(failure.path, "$or");
    let members: Vec<_> = failure.members.iter().map(|member| (member.path.as_str(), member.seen.as_deref())).collect();
    assert_eq!(members, [("b", Some("3")), ("c.d", None)]);
}

#[test]
fn a_set_explains_each_id_and_none_that_is_not_there() {
    let mut matcher = Matcher::new();
    matcher.insert(1, &Pattern::parse(r#"{"event":"ready"}"#).unwrap());
    matcher.insert(2, &Pattern::parse(r#"{"event":"failed"}"#).unwrap());
    // Two patterns of one id are alternatives.
    matcher.insert(3, &Pattern::parse(r#"{"event":"failed"}"#).unwrap());
    matcher.insert(3, &Pattern::parse(r#"{"n":[{"wildcard":"a*"}]}"#).unwrap());
    let input = Input { attributes: &[("event", "ready")], data: br#"{"n":"b"}"# };
    let mut all = matcher.explain_all(&input);
    all.sort_by_key(|(id, _)| *id);
    assert_eq!(
        all.iter().map(|(id, explanation)| (*id, explanation.matched)).collect::<Vec<_>>(),
        [(1, true), (2, false), (3, false)]
    );
    let failure = all[1].1.failure.as_ref().unwrap();
    assert_eq!((failure.path.as_str(), failure.seen.as_deref()), ("event", Some(r#""ready""#)));
    let members: Vec<&str> =
        all[2].1.failure.as_ref().unwrap().members.iter().map(|member| member.path.as_str()).collect();
    assert_eq!(members, ["event", "n"]);
    assert!(matcher.explain(&4, &input).is_none());
    matcher.remove(&1);
    assert!(matcher.explain(&1, &input).is_none());
}

#[test]
fn what_is_seen_is_cut_off() {
    let pattern = Pattern::parse(r#"{"a":"x"}"#).unwrap();
    let data = format!(r#"{{"a":[{}"{}"]}}"#, r#""y","#.repeat(40), "z".repeat(10_000));
    let failure = pattern.explain(&Input { attributes: &(), data: data.as_bytes() }).failure.unwrap();
    assert!(failure.seen.unwrap().len() < 500);
}
