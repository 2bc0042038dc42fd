//! Patterns that cannot be right are refused, with the path and the reason.

use synapse_hub_matcher::{Limits, Pattern};

#[test]
fn what_cannot_be_right_is_refused_with_path_and_reason() {
    for (json, path, reason) in [
        ("", "", "not JSON"),
        ("{", "", "not JSON"),
        (r#"{"a":[1]} x"#, "", "not JSON"),
        ("[]", "", "is an object"),
        ("5", "", "is an object"),
        ("{}", "", "matches everything"),
        (r#"{"a":{}}"#, "a", "matches everything"),
        (r#"{"a":[]}"#, "a", "empty list"),
        (r#"{"a":[[1]]}"#, "a", "list within a list"),
        (r#"{"a":[{}]}"#, "a", "operator is missing"),
        (r#"{"a":[1],"a":[2]}"#, "a", "twice"),
        (r#"{"a.b":[1],"a":{"b":[2]}}"#, "a.b", "named twice"),
        (r#"{"a.":[1]}"#, "a.", "part of the path is empty"),
        (r#"{"":[1]}"#, "", "part of the path is empty"),
        (r#"{"a":[{"prefx":"x"}]}"#, "a.prefx", "unknown operator"),
        (r#"{"a":[{"prefix":"x","suffix":"y"}]}"#, "a", "one operator"),
        (r#"{"a":{"prefix":"x"}}"#, "a.prefix", "is an operator"),
        (r#"{"a":{"numeric":[">",1]}}"#, "a.numeric", "is an operator"),
        (r#"{"a":{"anything-but":["x"]}}"#, "a.anything-but", "is an operator"),
        (r#"{"a":[{"prefix":5}]}"#, "a.prefix", "a text must stand here, not a number"),
        (r#"{"a":[{"prefix":["x"]}]}"#, "a.prefix", "a text must stand here, not a list"),
        (r#"{"a":[{"suffix":{"prefix":"x"}}]}"#, "a.suffix", "only `equals-ignore-case`"),
        (r#"{"a":[{"suffix":{"equals-ignore-case":5}}]}"#, "a.suffix.equals-ignore-case", "a text"),
        (r#"{"a":[{"wildcard":"a**b"}]}"#, "a.wildcard", "two `*`"),
        (r#"{"a":[{"wildcard":"a\\b"}]}"#, "a.wildcard", "backslash"),
        (r#"{"a":[{"wildcard":"a\\"}]}"#, "a.wildcard", "backslash"),
        (r#"{"a":[{"anything-but":[]}]}"#, "a.anything-but", "empty list"),
        (r#"{"a":[{"anything-but":["x",1]}]}"#, "a.anything-but", "not both"),
        (r#"{"a":[{"anything-but":null}]}"#, "a.anything-but", "not null"),
        (r#"{"a":[{"anything-but":[true]}]}"#, "a.anything-but", "not true or false"),
        (r#"{"a":[{"anything-but":{"numeric":["<",1]}}]}"#, "a.anything-but.numeric", "there can be"),
        (r#"{"a":[{"anything-but":{"prefix":""}}]}"#, "a.anything-but.prefix", "matches no text"),
        (r#"{"a":[{"anything-but":{"wildcard":"**"}}]}"#, "a.anything-but.wildcard", "two `*`"),
        (r#"{"a":[{"numeric":5}]}"#, "a.numeric", "takes a list"),
        (r#"{"a":[{"numeric":[]}]}"#, "a.numeric", "empty"),
        (r#"{"a":[{"numeric":[5]}]}"#, "a.numeric", "a comparison"),
        (r#"{"a":[{"numeric":[">"]}]}"#, "a.numeric", "must follow"),
        (r#"{"a":[{"numeric":[">","5"]}]}"#, "a.numeric", "not a text"),
        (r#"{"a":[{"numeric":["!=",5]}]}"#, "a.numeric", "no comparison"),
        (r#"{"a":[{"numeric":["=",5,"<",9]}]}"#, "a.numeric", "stands alone"),
        (r#"{"a":[{"numeric":[">",5,">=",6]}]}"#, "a.numeric", "one lower and one upper"),
        (r#"{"a":[{"numeric":[">",5,"<",5]}]}"#, "a.numeric", "no number"),
        (r#"{"a":[{"numeric":[">=",5,"<",5]}]}"#, "a.numeric", "no number"),
        (r#"{"a":[{"numeric":["<",1,">",2]}]}"#, "a.numeric", "no number"),
        (r#"{"a":[{"cidr":"10.0.0.0"}]}"#, "a.cidr", "missing"),
        (r#"{"a":[{"cidr":"10.0.0/8"}]}"#, "a.cidr", "no IP address"),
        (r#"{"a":[{"cidr":"10.0.0.0/33"}]}"#, "a.cidr", "from 0 to 32"),
        (r#"{"a":[{"cidr":"10.0.0.0/+8"}]}"#, "a.cidr", "from 0 to 32"),
        (r#"{"a":[{"cidr":"::/129"}]}"#, "a.cidr", "from 0 to 128"),
        (r#"{"a":[{"cidr":8}]}"#, "a.cidr", "a text"),
        (r#"{"a":[{"exists":"true"}]}"#, "a.exists", "true or false"),
        (r#"{"$or":[{"a":[1]}]}"#, "$or", "at least two"),
        (r#"{"$or":[]}"#, "$or", "at least two"),
        (r#"{"$or":{"a":[1]}}"#, "$or", "not an object"),
        (r#"{"$or":[{"a":[1]},5]}"#, "$or.1", "takes objects"),
        (r#"{"$or":[{"a":[1]},{}]}"#, "$or.1", "matches everything"),
        (r#"{"b":{"$or":[{"a":[1]},{"c":[{"x":1}]}]}}"#, "b.$or.1.c.x", "unknown operator"),
        (r#"{"a.b":[1],"a":{"b":{"$or":[{"c":[1]},{"d":[1]}]}}}"#, "a.b.$or", "named twice"),
    ] {
        let error = Pattern::parse(json).expect_err(json);
        assert_eq!(error.path, path, "{json}: {error}");
        assert!(error.reason.contains(reason), "{json}: {error}");
    }
}

#[test]
fn what_is_too_much_is_refused() {
    let refused = |json: &str, limits: &Limits, reason: &str| {
        let error = Pattern::parse_within(json, limits).expect_err(json);
        assert!(error.reason.contains(reason), "{json}: {error}");
    };
    let nested = |depth: usize| r#"{"a":"#.repeat(depth) + "[1]" + &"}".repeat(depth);
    let limits = Limits::default();
    assert!(Pattern::parse(&nested(limits.depth)).is_ok());
    refused(&nested(limits.depth + 1), &limits, "deeper than 32");
    refused(&nested(200), &limits, "deeper than");
    refused(&nested(100_000), &limits, "deeper than");
    refused(&format!(r#"{{"{}":1}}"#, vec!["a"; 33].join(".")), &limits, "deeper than 32");

    let list = |length: usize| format!(r#"{{"a":{:?}}}"#, (0..length).collect::<Vec<_>>());
    assert!(Pattern::parse(&list(limits.predicates)).is_ok());
    refused(&list(limits.predicates + 1), &limits, "more than 4096");
    let but = format!(r#"{{"a":[{{"anything-but":{:?}}}]}}"#, (0..5000).collect::<Vec<_>>());
    refused(&but, &limits, "more than 4096");

    let or = |key: &str| format!(r#""{key}":{{"$or":[{{"a":[1]}},{{"b":[1]}}]}}"#);
    let many = |count: usize| format!("{{{}}}", (0..count).map(|n| or(&format!("k{n}"))).collect::<Vec<_>>().join(","));
    assert!(Pattern::parse(&many(9)).is_ok());
    refused(&many(10), &limits, "multiply");
    refused(&many(500), &limits, "multiply");

    refused(&format!(r#"{{"a":[{{"wildcard":"{}"}}]}}"#, "*abc".repeat(100)), &limits, "too complex");
    let few = Limits { wildcard_complexity: 5, ..Limits::default() };
    assert!(Pattern::parse_within(r#"{"a":[{"wildcard":"ab*"}]}"#, &few).is_ok());
    refused(r#"{"a":[{"wildcard":"ab*"},{"wildcard":"cd*"}]}"#, &few, "too complex");
}

#[test]
fn names_of_operators_can_be_names_of_fields() {
    for json in [
        r#"{"detail":{"prefix":["x"]}}"#,
        r#"{"prefix":["x"]}"#,
        r#"{"detail":{"exists":[true]}}"#,
        r#"{"detail.prefix":"x"}"#,
        r#"{"cidr":{"x":1}}"#,
        r#"{"detail":{"numeric":[1,2]}}"#,
    ] {
        assert!(Pattern::parse(json).is_ok(), "{json}");
    }
}

#[test]
fn the_canonical_form_is_one_for_equal_patterns() {
    for (one, other) in [
        (r#"{"b":"x","a":{"c":[1,2]}}"#, r#"{"a.c":[2.0,1,1],"b":["x"]}"#),
        (r#"{"a":[{"numeric":["<",5,">",1e0]}]}"#, r#"{"a":[{"numeric":[">",1,"<",5.0]}]}"#),
        (r#"{"a":[{"cidr":"10.1.2.3/8"}]}"#, r#"{"a":[{"cidr":"10.0.0.0/8"}]}"#),
        (r#"{"a":[{"anything-but":"x"}]}"#, r#"{"a":[{"anything-but":["x"]}]}"#),
        (r#"{"a":{"$or":[{"b":1},{"c.d":2}]}}"#, r#"{"a":{"$or":[{"b":[1]},{"c":{"d":[2]}}]}}"#),
    ] {
        let (one, other) = (Pattern::parse(one).unwrap(), Pattern::parse(other).unwrap());
        assert_eq!(one, other);
        assert_eq!(Pattern::parse(one.to_json()).unwrap().to_json(), one.to_json());
    }
    let value = serde_json::json!({"a": [1.5, "x", null, true], "b": {"c": [{"exists": false}]}});
    assert_eq!(Pattern::from_value(&value).unwrap(), Pattern::parse(&value.to_string()).unwrap());
}
