//! Every operator, with what it matches and what it does not, also in arrays.

use synapse_hub_matcher::{Fields, Input, Matcher, Pattern, Scratch};

/// The pattern, data that matches, and data that does not.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

fn check(cases: &[Case]) {
    for (json, yes, no) in cases {
        let pattern = Pattern::parse(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        let again = Pattern::parse(pattern.to_json()).unwrap_or_else(|error| panic!("{}: {error}", pattern.to_json()));
        assert_eq!(pattern, again, "the canonical form of {json} is canonical");
        let mut matcher = Matcher::new();
        matcher.insert(7u32, &pattern);
        let verdicts = yes.iter().map(|data| (data, true)).chain(no.iter().map(|data| (data, false)));
        for (data, wanted) in verdicts {
            let input = Input { attributes: &(), data: data.as_bytes() };
            assert_eq!(pattern.matches(&input), wanted, "pattern {json} data {data}");
            assert_eq!(again.matches(&input), wanted, "canonical {} data {data}", pattern.to_json());
            assert_eq!(pattern.explain(&input).matched, wanted, "explain {json} data {data}");
            assert_eq!(pattern.explain(&input).failure.is_none(), wanted, "explain {json} data {data}");
            let mut out = Vec::new();
            matcher.matches(&input, &mut Scratch::new(), &mut out);
            assert_eq!(out, if wanted { vec![7] } else { vec![] }, "matcher {json} data {data}");
            out.clear();
            matcher.matches_fields(&(), &Fields::from_json(data.as_bytes()), &mut Scratch::new(), &mut out);
            assert_eq!(out, if wanted { vec![7] } else { vec![] }, "fields {json} data {data}");
            let explained = matcher.explain(&7, &input).expect("there is a rule");
            assert_eq!(explained.matched, wanted, "matcher.explain {json} data {data}");
        }
    }
}

#[test]
fn exact_values() {
    check(&[
        (
            r#"{"a":["x"]}"#,
            &[r#"{"a":"x"}"#, r#"{"b":1,"a":"x"}"#],
            &[r#"{"a":"X"}"#, r#"{"a":"xy"}"#, r#"{"b":"x"}"#, "{}", ""],
        ),
        (r#"{"a":["x","y"]}"#, &[r#"{"a":"y"}"#], &[r#"{"a":"z"}"#]),
        (r#"{"a":[""]}"#, &[r#"{"a":""}"#], &[r#"{"a":null}"#, r#"{"a":" "}"#, "{}"]),
        (r#"{"a":[5]}"#, &[r#"{"a":5}"#, r#"{"a":5.0}"#, r#"{"a":0.5e1}"#], &[r#"{"a":"5"}"#, r#"{"a":5.1}"#]),
        (r#"{"a":["5"]}"#, &[r#"{"a":"5"}"#], &[r#"{"a":5}"#]),
        (r#"{"a":[3.0e2]}"#, &[r#"{"a":300}"#, r#"{"a":300.0}"#], &[r#"{"a":30}"#]),
        (r#"{"a":[9007199254740993]}"#, &[r#"{"a":9007199254740993}"#], &[r#"{"a":9007199254740992}"#]),
        (r#"{"a":[-0]}"#, &[r#"{"a":0}"#, r#"{"a":0.0}"#], &[r#"{"a":"0"}"#, r#"{"a":false}"#]),
        (r#"{"a":[true]}"#, &[r#"{"a":true}"#], &[r#"{"a":false}"#, r#"{"a":"true"}"#, r#"{"a":1}"#]),
        (r#"{"a":[false]}"#, &[r#"{"a":false}"#], &[r#"{"a":true}"#, r#"{"a":0}"#]),
        (
            r#"{"a":[null]}"#,
            &[r#"{"a":null}"#],
            &[r#"{"a":"null"}"#, r#"{"a":""}"#, "{}", r#"{"a":{}}"#, r#"{"a":[]}"#],
        ),
        (r#"{"a":["ü中😀"]}"#, &[r#"{"a":"ü中😀"}"#, r#"{"a":"\u00fc\u4e2d\ud83d\ude00"}"#], &[r#"{"a":"u中😀"}"#]),
        (r#"{"a":["q\"\\/"]}"#, &[r#"{"a":"q\"\\\/"}"#], &[r#"{"a":"q"}"#]),
        (r#"{"\u0061":["x"]}"#, &[r#"{"a":"x"}"#, r#"{"\u0061":"x"}"#], &[]),
    ]);
}

#[test]
fn shorthands() {
    check(&[
        (r#"{"a":"x"}"#, &[r#"{"a":"x"}"#], &[r#"{"a":"y"}"#]),
        (r#"{"a":null,"b":1}"#, &[r#"{"a":null,"b":1}"#], &[r#"{"b":1}"#]),
        (
            r#"{"a.b.c":"x"}"#,
            &[r#"{"a":{"b":{"c":"x"}}}"#, r#"{"a.b.c":"x"}"#, r#"{"a":{"b.c":"x"}}"#],
            &[r#"{"a":{"b":"x"}}"#],
        ),
        (r#"{"a":{"b.c":["x"]}}"#, &[r#"{"a":{"b":{"c":"x"}}}"#, r#"{"a.b":{"c":"x"}}"#], &[r#"{"b":{"c":"x"}}"#]),
    ]);
}

#[test]
fn prefix_and_suffix() {
    check(&[
        (
            r#"{"a":[{"prefix":"ab"}]}"#,
            &[r#"{"a":"ab"}"#, r#"{"a":"abc"}"#],
            &[r#"{"a":"a"}"#, r#"{"a":"Abc"}"#, r#"{"a":1}"#, "{}"],
        ),
        (r#"{"a":[{"prefix":""}]}"#, &[r#"{"a":""}"#, r#"{"a":"x"}"#], &[r#"{"a":null}"#, r#"{"a":1}"#]),
        (
            r#"{"a":[{"suffix":".pt"}]}"#,
            &[r#"{"a":"m.pt"}"#, r#"{"a":".pt"}"#],
            &[r#"{"a":"pt"}"#, r#"{"a":".PT"}"#, r#"{"a":"m.pt "}"#],
        ),
        (
            r#"{"a":[{"prefix":{"equals-ignore-case":"AB"}}]}"#,
            &[r#"{"a":"aBc"}"#, r#"{"a":"ab"}"#],
            &[r#"{"a":"a"}"#, r#"{"a":"xab"}"#],
        ),
        (
            r#"{"a":[{"suffix":{"equals-ignore-case":"ÄB"}}]}"#,
            &[r#"{"a":"xäb"}"#, r#"{"a":"Äb"}"#],
            &[r#"{"a":"äbx"}"#, r#"{"a":"ab"}"#],
        ),
        (r#"{"a":["x",{"prefix":"y"}]}"#, &[r#"{"a":"x"}"#, r#"{"a":"yz"}"#], &[r#"{"a":"xy"}"#]),
        (r#"{"a":[{"prefix":"1"}]}"#, &[r#"{"a":"12"}"#], &[r#"{"a":12}"#]),
    ]);
}

#[test]
fn equals_ignore_case() {
    check(&[
        (
            r#"{"a":[{"equals-ignore-case":"Ready"}]}"#,
            &[r#"{"a":"ready"}"#, r#"{"a":"READY"}"#],
            &[r#"{"a":"readyx"}"#, r#"{"a":null}"#],
        ),
        (r#"{"a":[{"equals-ignore-case":"STRASSE"}]}"#, &[r#"{"a":"straße"}"#], &[r#"{"a":"strase"}"#]),
        (r#"{"a":[{"equals-ignore-case":"Ж"}]}"#, &[r#"{"a":"ж"}"#], &[r#"{"a":"з"}"#]),
    ]);
}

#[test]
fn wildcards() {
    check(&[
        (
            r#"{"a":[{"wildcard":"m*.pt"}]}"#,
            &[r#"{"a":"m.pt"}"#, r#"{"a":"model.pt"}"#],
            &[r#"{"a":"m.pts"}"#, r#"{"a":"xm.pt"}"#],
        ),
        (r#"{"a":[{"wildcard":"*"}]}"#, &[r#"{"a":""}"#, r#"{"a":"x"}"#], &[r#"{"a":1}"#, "{}"]),
        (r#"{"a":[{"wildcard":"a\\*b"}]}"#, &[r#"{"a":"a*b"}"#], &[r#"{"a":"axb"}"#]),
        (r#"{"a":[{"wildcard":"a\\\\*b"}]}"#, &[r#"{"a":"a\\b"}"#, r#"{"a":"a\\xb"}"#], &[r#"{"a":"axb"}"#]),
        (r#"{"a":[{"wildcard":"*a*b*"}]}"#, &[r#"{"a":"xaxbx"}"#, r#"{"a":"ab"}"#], &[r#"{"a":"ba"}"#]),
    ]);
}

#[test]
fn anything_but() {
    check(&[
        (
            r#"{"a":[{"anything-but":"x"}]}"#,
            &[r#"{"a":"y"}"#, r#"{"a":null}"#, r#"{"a":5}"#, r#"{"a":["x","y"]}"#],
            &[r#"{"a":"x"}"#, "{}", r#"{"a":[]}"#, r#"{"a":["x"]}"#, r#"{"a":{"b":1}}"#],
        ),
        (r#"{"a":[{"anything-but":5}]}"#, &[r#"{"a":6}"#, r#"{"a":"5"}"#], &[r#"{"a":5.0}"#]),
        (r#"{"a":[{"anything-but":["x","y"]}]}"#, &[r#"{"a":"z"}"#], &[r#"{"a":"x"}"#, r#"{"a":"y"}"#]),
        (r#"{"a":[{"anything-but":[1,2]}]}"#, &[r#"{"a":3}"#, r#"{"a":true}"#], &[r#"{"a":1}"#, r#"{"a":2}"#]),
        (
            r#"{"a":[{"anything-but":{"prefix":"te"}}]}"#,
            &[r#"{"a":"prod"}"#, r#"{"a":null}"#, r#"{"a":1}"#],
            &[r#"{"a":"test"}"#, "{}"],
        ),
        (r#"{"a":[{"anything-but":{"prefix":["a","b"]}}]}"#, &[r#"{"a":"c"}"#], &[r#"{"a":"ax"}"#, r#"{"a":"b"}"#]),
        (
            r#"{"a":[{"anything-but":{"suffix":[".tmp",".bak"]}}]}"#,
            &[r#"{"a":"x.pt"}"#],
            &[r#"{"a":"x.tmp"}"#, r#"{"a":"x.bak"}"#],
        ),
        (
            r#"{"a":[{"anything-but":{"equals-ignore-case":["Stop","HALT"]}}]}"#,
            &[r#"{"a":"go"}"#],
            &[r#"{"a":"STOP"}"#, r#"{"a":"halt"}"#],
        ),
        (
            r#"{"a":[{"anything-but":{"wildcard":"*/bin/*.jar"}}]}"#,
            &[r#"{"a":"lib/x.jar"}"#],
            &[r#"{"a":"usr/bin/x.jar"}"#],
        ),
        (
            r#"{"a":[{"anything-but":{"wildcard":["a*","*z"]}}]}"#,
            &[r#"{"a":"bc"}"#],
            &[r#"{"a":"ab"}"#, r#"{"a":"yz"}"#],
        ),
    ]);
}

#[test]
fn numeric_ranges() {
    check(&[
        (
            r#"{"a":[{"numeric":[">",0,"<=",5]}]}"#,
            &[r#"{"a":0.0001}"#, r#"{"a":5}"#, r#"{"a":5.0}"#],
            &[r#"{"a":0}"#, r#"{"a":5.01}"#, r#"{"a":"3"}"#, r#"{"a":null}"#],
        ),
        (r#"{"a":[{"numeric":["<=",5,">",0]}]}"#, &[r#"{"a":5}"#], &[r#"{"a":0}"#]),
        (r#"{"a":[{"numeric":["=",301.8]}]}"#, &[r#"{"a":3.018e2}"#], &[r#"{"a":301.80001}"#]),
        (r#"{"a":[{"numeric":["<",10]}]}"#, &[r#"{"a":-1e300}"#, r#"{"a":9.999}"#], &[r#"{"a":10}"#]),
        (r#"{"a":[{"numeric":[">=",-1.5]}]}"#, &[r#"{"a":-1.5}"#, r#"{"a":1e400}"#], &[r#"{"a":-1.51}"#]),
        (
            r#"{"a":[{"numeric":[">=",9007199254740993,"<=",9007199254740993]}]}"#,
            &[r#"{"a":9007199254740993}"#],
            &[r#"{"a":9007199254740992}"#],
        ),
        (r#"{"a":[{"numeric":["<",1]},{"numeric":[">",9]}]}"#, &[r#"{"a":0}"#, r#"{"a":10}"#], &[r#"{"a":5}"#]),
    ]);
}

#[test]
fn cidr() {
    check(&[
        (
            r#"{"a":[{"cidr":"10.0.0.0/24"}]}"#,
            &[r#"{"a":"10.0.0.255"}"#, r#"{"a":"::ffff:10.0.0.1"}"#],
            &[r#"{"a":"10.0.1.0"}"#, r#"{"a":"10.0.0"}"#, r#"{"a":"x"}"#, r#"{"a":10}"#],
        ),
        (r#"{"a":[{"cidr":"10.1.2.3/8"}]}"#, &[r#"{"a":"10.255.0.1"}"#], &[r#"{"a":"11.0.0.0"}"#]),
        (r#"{"a":[{"cidr":"0.0.0.0/0"}]}"#, &[r#"{"a":"255.1.2.3"}"#], &[r#"{"a":"::1"}"#]),
        (r#"{"a":[{"cidr":"10.0.0.1/32"}]}"#, &[r#"{"a":"10.0.0.1"}"#], &[r#"{"a":"10.0.0.2"}"#]),
        (
            r#"{"a":[{"cidr":"::/0"}]}"#,
            &[r#"{"a":"::1"}"#, r#"{"a":"ffff::"}"#],
            &[r#"{"a":"10.0.0.1"}"#, r#"{"a":"::ffff:1.2.3.4"}"#],
        ),
        (r#"{"a":[{"cidr":"::fffe:0:0/95"}]}"#, &[r#"{"a":"::fffe:1:2"}"#], &[r#"{"a":"10.0.0.1"}"#]),
        (
            r#"{"a":[{"cidr":"2001:db8::/32"}]}"#,
            &[r#"{"a":"2001:db8::1"}"#, r#"{"a":"2001:0DB8:0:1::"}"#],
            &[r#"{"a":"2001:db9::"}"#, r#"{"a":"10.0.0.1"}"#],
        ),
    ]);
}

#[test]
fn exists_is_about_leaves() {
    check(&[
        (
            r#"{"a":[{"exists":true}]}"#,
            &[r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":[1]}"#],
            &["{}", r#"{"a":{}}"#, r#"{"a":{"b":1}}"#, r#"{"a":[]}"#, "no json"],
        ),
        (
            r#"{"a":[{"exists":false}]}"#,
            &["{}", r#"{"a":{"b":1}}"#, r#"{"a":[]}"#, "no json", ""],
            &[r#"{"a":1}"#, r#"{"a":null}"#],
        ),
        (r#"{"a":["x",{"exists":false}]}"#, &["{}", r#"{"a":"x"}"#], &[r#"{"a":"y"}"#]),
        (
            r#"{"a.b":[{"exists":false}],"c":[1]}"#,
            &[r#"{"c":1}"#, r#"{"c":1,"a":{"c":2}}"#],
            &[r#"{"c":1,"a":{"b":2}}"#, "{}"],
        ),
    ]);
}

#[test]
fn or_at_any_level() {
    check(&[
        (
            r#"{"$or":[{"a":[1]},{"b":[2]}]}"#,
            &[r#"{"a":1}"#, r#"{"b":2}"#, r#"{"a":1,"b":2}"#],
            &[r#"{"a":2,"b":1}"#, "{}"],
        ),
        (r#"{"c":[3],"$or":[{"a":[1]},{"b":[2]}]}"#, &[r#"{"a":1,"c":3}"#], &[r#"{"a":1}"#, r#"{"c":3}"#]),
        (r#"{"d":{"$or":[{"a":[1]},{"b":[2]}]}}"#, &[r#"{"d":{"b":2}}"#], &[r#"{"b":2}"#]),
        (
            r#"{"$or":[{"a":[1]},{"b":[2]}],"d":{"$or":[{"a":[1]},{"b":[2]}]}}"#,
            &[r#"{"a":1,"d":{"b":2}}"#],
            &[r#"{"a":1}"#, r#"{"d":{"b":2}}"#],
        ),
        (
            r#"{"$or":[{"a":[1],"$or":[{"x":[1]},{"y":[1]}]},{"b":[2]}]}"#,
            &[r#"{"a":1,"y":1}"#, r#"{"b":2}"#],
            &[r#"{"a":1}"#, r#"{"y":1}"#],
        ),
        (
            r#"{"a":[{"prefix":"x"}],"$or":[{"a":[{"suffix":"y"}]},{"b":[2]}]}"#,
            &[r#"{"a":"xy"}"#, r#"{"a":"x","b":2}"#],
            &[r#"{"a":"x"}"#, r#"{"a":"y"}"#],
        ),
    ]);
}

#[test]
fn arrays_match_by_intersection() {
    check(&[
        (
            r#"{"a":["x","y"]}"#,
            &[r#"{"a":["q","y"]}"#, r#"{"a":[["q"],["y"]]}"#, r#"{"a":[["q",["x"]],1]}"#],
            &[r#"{"a":["q"]}"#, r#"{"a":[]}"#, r#"{"a":[["q"],[]]}"#],
        ),
        (r#"{"a":[{"numeric":[">",5]}]}"#, &[r#"{"a":[1,2,9]}"#], &[r#"{"a":[1,2]}"#]),
        (r#"{"a":["x"],"b":["y"]}"#, &[r#"{"a":["q","x"],"b":["y","q"]}"#], &[r#"{"a":["x"],"b":["q"]}"#]),
        (r#"{"a":["x"],"$or":[{"a":["y"]},{"b":[1]}]}"#, &[r#"{"a":["x","y"]}"#], &[r#"{"a":["x"]}"#]),
    ]);
}

#[test]
fn every_operator_is_satisfied_by_one_value_of_an_array() {
    check(&[
        (r#"{"a":[null]}"#, &[r#"{"a":[1,null]}"#], &[r#"{"a":[1,"null"]}"#]),
        (r#"{"a":[true]}"#, &[r#"{"a":[false,true]}"#], &[r#"{"a":[false,"true"]}"#]),
        (r#"{"a":[{"prefix":"ab"}]}"#, &[r#"{"a":["x","abc"]}"#], &[r#"{"a":["x","cab"]}"#]),
        (r#"{"a":[{"suffix":"bc"}]}"#, &[r#"{"a":["x",["abc"]]}"#], &[r#"{"a":["x","bca"]}"#]),
        (r#"{"a":[{"prefix":{"equals-ignore-case":"aB"}}]}"#, &[r#"{"a":["x","ABC"]}"#], &[r#"{"a":["x","CAB"]}"#]),
        (r#"{"a":[{"suffix":{"equals-ignore-case":"Bc"}}]}"#, &[r#"{"a":["x","ABC"]}"#], &[r#"{"a":["x","BCA"]}"#]),
        (r#"{"a":[{"equals-ignore-case":"ab"}]}"#, &[r#"{"a":["x","AB"]}"#], &[r#"{"a":["A","B"]}"#]),
        (r#"{"a":[{"wildcard":"a*c"}]}"#, &[r#"{"a":["x","abc"]}"#], &[r#"{"a":["a","c"]}"#]),
        // One bound is not satisfied by one value and the other by another.
        (r#"{"a":[{"numeric":[">",3,"<",5]}]}"#, &[r#"{"a":[1,4,9]}"#], &[r#"{"a":[1,9]}"#, r#"{"a":["4"]}"#]),
        (r#"{"a":[{"numeric":["=",3]}]}"#, &[r#"{"a":[1,[3.0]]}"#], &[r#"{"a":[1,2]}"#]),
        (r#"{"a":[{"cidr":"10.0.0.0/8"}]}"#, &[r#"{"a":["::1","10.1.2.3"]}"#], &[r#"{"a":["::1","11.1.2.3"]}"#]),
        (r#"{"a":[{"anything-but":["x","y"]}]}"#, &[r#"{"a":["x","z"]}"#], &[r#"{"a":["x","y"]}"#, r#"{"a":[]}"#]),
        (r#"{"a":[{"anything-but":{"prefix":"x"}}]}"#, &[r#"{"a":["xa","b"]}"#], &[r#"{"a":["xa","xb"]}"#]),
        (r#"{"a":[{"anything-but":{"suffix":"x"}}]}"#, &[r#"{"a":["ax",1]}"#], &[r#"{"a":["ax","bx"]}"#]),
        (r#"{"a":[{"anything-but":{"equals-ignore-case":"x"}}]}"#, &[r#"{"a":["X",null]}"#], &[r#"{"a":["X","x"]}"#]),
        (r#"{"a":[{"anything-but":{"wildcard":"x*z"}}]}"#, &[r#"{"a":["xz","x"]}"#], &[r#"{"a":["xz","xyz"]}"#]),
        (r#"{"a":[{"exists":true}]}"#, &[r#"{"a":[null]}"#, r#"{"a":[[],[1]]}"#], &[r#"{"a":[[],{}]}"#]),
        (r#"{"a":[{"exists":false}]}"#, &[r#"{"a":[[],{}]}"#], &[r#"{"a":[[],1]}"#]),
        (
            r#"{"a":{"$or":[{"b":[1]},{"c":[2]}],"d":[3]}}"#,
            &[r#"{"a":[{"b":9},{"c":2,"d":3}]}"#],
            &[r#"{"a":[{"b":1},{"c":2},{"d":3}]}"#],
        ),
    ]);
}

#[test]
fn fields_agree_on_the_element_of_an_array() {
    check(&[
        (
            r#"{"i":{"a":[1],"b":[2]}}"#,
            &[r#"{"i":[{"a":1,"b":2}]}"#, r#"{"i":[{"a":1},{"b":2,"a":[0,1]}]}"#, r#"{"i":{"a":1,"b":2}}"#],
            &[r#"{"i":[{"a":1,"b":3},{"a":3,"b":2}]}"#, r#"{"i":[{"a":1},{"b":2}]}"#],
        ),
        (
            r#"{"i":{"a":[1],"b":[{"exists":false}]}}"#,
            &[r#"{"i":[{"a":1},{"a":2,"b":2}]}"#],
            &[r#"{"i":[{"a":1,"b":2},{"a":2}]}"#],
        ),
        (r#"{"i":{"b":[{"exists":false}]}}"#, &[r#"{"i":[{"a":1}]}"#], &[r#"{"i":[{"a":1},{"b":2}]}"#]),
        (
            r#"{"i":{"a":[1],"j":{"b":[2],"c":[3]}}}"#,
            &[r#"{"i":[{"a":0},{"a":1,"j":[{"b":9},{"b":2,"c":3}]}]}"#],
            &[r#"{"i":[{"a":1,"j":[{"b":2},{"c":3}]}]}"#, r#"{"i":[{"a":1},{"j":[{"b":2,"c":3}]}]}"#],
        ),
        (
            r#"{"i":{"a":[1]},"k":{"b":[2]}}"#,
            &[r#"{"i":[{"a":0},{"a":1}],"k":[{"b":2}]}"#],
            &[r#"{"i":[{"a":1}],"k":[{"b":3}]}"#],
        ),
        (
            r#"{"i":{"a":[1],"b":[2]}}"#,
            &[r#"{"i":[[{"a":1,"b":2}]]}"#],
            &[r#"{"i":[[{"a":1},{"b":2}]]}"#, r#"{"i":[[{"a":1}],[{"b":2}]]}"#],
        ),
        (
            r#"{"i":{"a":[1],"b":["q",{"exists":false}]}}"#,
            &[r#"{"i":[{"a":1,"b":"q"}]}"#, r#"{"i":[{"a":1},{"b":"z"}]}"#],
            &[r#"{"i":[{"a":1,"b":"z"},{"b":"q"}]}"#],
        ),
    ]);
}

#[test]
fn of_two_equal_keys_the_first_counts() {
    check(&[
        (r#"{"a":[1]}"#, &[r#"{"a":1,"a":2}"#], &[r#"{"a":2,"a":1}"#, r#"{"a":{"b":1},"a":1}"#]),
        (
            r#"{"a":{"b":[1]}}"#,
            &[r#"{"a":{"b":1},"a":{"b":2}}"#, r#"{"a.b":0,"a":{"b":1}}"#],
            &[r#"{"a":{"c":1},"a":{"b":1}}"#],
        ),
    ]);
}

#[test]
fn data_that_is_not_json_has_no_fields() {
    check(&[(
        r#"{"a":[1]}"#,
        &[r#" {"a" : 1 } "#],
        &[r#"{"a":1"#, r#"{"a":1}x"#, r#"{"a":1,"b":tru}"#, r#"{"a":1,"b":"\x"}"#, r#"{"a":1,"b":01}"#],
    )]);
    let broken = [b"{\"a\":1,\"b\":\"\xff\"}".as_slice(), b"\xff\xfe", &[b'['; 100_000], b"{\"a\":1,\"b\":\"\x01\"}"];
    let pattern = Pattern::parse(r#"{"a":[1]}"#).unwrap();
    for data in broken {
        assert!(!pattern.matches(&Input { attributes: &(), data }));
    }
}

#[test]
fn attributes_win_over_data_keys_which_stay_reachable() {
    let attributes = [("event", "ready"), ("topic", "models"), ("source", "trainer")];
    let data = br#"{"event":"from data","source":{"x":1},"n":1,"items":[{"a":1,"b":2},{"a":3}]}"#;
    for (json, wanted) in [
        (r#"{"event":"ready"}"#, true),
        (r#"{"topic":[{"prefix":"mod"}]}"#, true),
        (r#"{"event":"from data"}"#, false),
        (r#"{"data.event":"from data"}"#, true),
        (r#"{"data":{"event":"ready"}}"#, false),
        (r#"{"source.x":1}"#, false),
        (r#"{"data.source.x":1}"#, true),
        (r#"{"source":"trainer","n":1,"data.n":1}"#, true),
        (r#"{"data.items.a":1,"items.b":2}"#, true),
        (r#"{"data.items.a":3,"items.b":2}"#, false),
        (r#"{"data":[{"exists":false}]}"#, true),
        (r#"{"id":[{"exists":false}],"timestamp":[{"exists":false}]}"#, true),
    ] {
        let pattern = Pattern::parse(json).unwrap();
        assert_eq!(pattern.matches(&Input { attributes: &attributes, data }), wanted, "{json}");
    }
}

#[test]
fn a_key_data_of_its_own_is_just_a_key() {
    check(&[
        (
            r#"{"data.x":[1]}"#,
            &[r#"{"x":1}"#, r#"{"data":{"x":1}}"#, r#"{"x":2,"data":{"x":1}}"#, r#"{"data":{"x":1},"x":2}"#],
            &[r#"{"x":1,"data":{"x":2}}"#, r#"{"x":1,"data":5}"#, r#"{"data":{},"x":1}"#],
        ),
        (r#"{"data":[5]}"#, &["5", "[4,5]", r#"{"data":5}"#], &["6", r#"{"x":5}"#, "[]"]),
        (r#"{"data.x":[5],"data.y":[6]}"#, &[r#"[{"x":5,"y":6}]"#], &[r#"[{"x":5},{"y":6}]"#]),
        (r#"{"data.data.x":[1]}"#, &[r#"{"data":{"data":{"x":1}}}"#], &[r#"{"data":{"x":1}}"#]),
    ]);
}
