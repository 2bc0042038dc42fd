//! The oracle: the pattern language evaluated as naively as it can be said, sharing no code with the crate.
//!
//! Every choice of alternatives and of array elements is tried; numbers are compared as decimal texts.

use std::{cmp::Ordering, collections::HashMap};

use serde_json::value::RawValue;

/// JSON with numbers as text and repeated keys kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        let raw = raw.get();
        Some(match raw.as_bytes()[0] {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'"' => Self::Text(serde_json::from_str(raw).ok()?),
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
                Self::List(items.into_iter().map(|item| Self::parse(item.get())).collect::<Option<_>>()?)
            }
            b'{' => {
                let entries: Entries = serde_json::from_str(raw).ok()?;
                let parse = |(key, value): (String, Box<RawValue>)| Some((key, Self::parse(value.get())?));
                Self::Object(entries.0.into_iter().map(parse).collect::<Option<_>>()?)
            }
            _ => Self::Number(raw.to_owned()),
        })
    }

    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Object(_))
    }
}

struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The array elements around a value, from the outside in: which array, which element.
type Trail = Vec<(usize, usize)>;

struct Leaf {
    value: Json,
    trail: Trail,
}

/// Whether an event matches a pattern, by definition.
pub(crate) fn matches(pattern: &str, attributes: &[(&str, &str)], data: &str) -> bool {
    let leaves = flatten(attributes, data);
    let Some(Json::Object(entries)) = Json::parse(pattern) else { panic!("no pattern: {pattern}") };
    alternatives(&entries, "").iter().any(|conditions| is_satisfied(conditions, &leaves))
}

fn flatten(attributes: &[(&str, &str)], data: &str) -> HashMap<String, Vec<Leaf>> {
    let mut leaves = HashMap::new();
    for (name, text) in attributes {
        collect(name, &Json::Text((*text).to_owned()), &vec![], &mut leaves);
    }
    match Json::parse(data) {
        None => {}
        Some(Json::Object(entries)) => {
            let own_data = entries.iter().any(|(key, _)| key == "data");
            for (key, value) in first_keys(&entries) {
                if !attributes.iter().any(|(name, _)| name == key) {
                    collect(key, value, &vec![], &mut leaves);
                }
                if !own_data {
                    collect(&format!("data.{key}"), value, &vec![], &mut leaves);
                }
            }
        }
        Some(other) => collect("data", &other, &vec![], &mut leaves),
    }
    leaves.values_mut().for_each(one_array_an_element);
    leaves
}

/// Of equal keys the first counts.
fn first_keys(entries: &[(String, Json)]) -> Vec<&(String, Json)> {
    let is_first = |(at, (key, _)): &(usize, &(String, Json))| !entries[..*at].iter().any(|(other, _)| other == key);
    entries.iter().enumerate().filter(is_first).map(|(_, entry)| entry).collect()
}

fn collect(path: &str, value: &Json, trail: &Trail, leaves: &mut HashMap<String, Vec<Leaf>>) {
    match value {
        Json::Object(entries) => {
            for (key, value) in first_keys(entries) {
                collect(&format!("{path}.{key}"), value, trail, leaves);
            }
        }
        Json::List(items) => {
            // An array is known by where it is in memory.
            let array = items.as_ptr() as usize;
            for (index, item) in items.iter().enumerate() {
                let within =
                    if item.is_scalar() { trail.clone() } else { [trail.as_slice(), &[(array, index)]].concat() };
                collect(path, item, &within, leaves);
            }
        }
        scalar => {
            leaves.entry(path.to_owned()).or_default().push(Leaf { value: scalar.clone(), trail: trail.clone() });
        }
    }
}

/// Where dotted and nested keys lead to two arrays at one path within one element, the first counts.
fn one_array_an_element(leaves: &mut Vec<Leaf>) {
    let mut first: HashMap<Trail, usize> = HashMap::new();
    leaves.retain(|leaf| {
        let levels = || leaf.trail.iter().enumerate().map(|(depth, (array, _))| (leaf.trail[..depth].to_vec(), *array));
        let agrees = levels().all(|(around, array)| first.get(&around).is_none_or(|&other| other == array));
        if agrees {
            first.extend(levels());
        }
        agrees
    });
}

/// A path and the tests of which one must hold; none of them: there must be no value.
struct Condition {
    path: String,
    tests: Vec<Json>,
}

/// All ways to choose the members of `$or` and between absence and presence.
fn alternatives(entries: &[(String, Json)], base: &str) -> Vec<Vec<Condition>> {
    let mut all: Vec<Vec<Condition>> = vec![vec![]];
    for (key, value) in entries {
        let path = if base.is_empty() { key.clone() } else { format!("{base}.{key}") };
        let choices: Vec<Vec<Condition>> = match value {
            Json::List(members) if key == "$or" => members
                .iter()
                .flat_map(|member| match member {
                    Json::Object(entries) => alternatives(entries, base),
                    _ => panic!("a member of $or"),
                })
                .collect(),
            Json::Object(entries) => alternatives(entries, &path),
            Json::List(tests) => field(&path, tests),
            scalar => field(&path, std::slice::from_ref(scalar)),
        };
        all = all.iter().flat_map(|one| choices.iter().map(|other| copy(one).chain(copy(other)).collect())).collect();
    }
    all
}

fn copy(conditions: &[Condition]) -> impl Iterator<Item = Condition> {
    conditions.iter().map(|condition| Condition { path: condition.path.clone(), tests: condition.tests.clone() })
}

fn field(path: &str, tests: &[Json]) -> Vec<Vec<Condition>> {
    let absent = Json::Object(vec![("exists".into(), Json::Bool(false))]);
    let present: Vec<Json> = tests.iter().filter(|test| **test != absent).cloned().collect();
    let mut choices = Vec::new();
    if tests.contains(&absent) {
        choices.push(vec![Condition { path: path.to_owned(), tests: vec![] }]);
    }
    if !present.is_empty() {
        choices.push(vec![Condition { path: path.to_owned(), tests: present }]);
    }
    choices
}

/// Tries every choice of a value for each condition, such that no array is entered at two elements.
fn is_satisfied(conditions: &[Condition], leaves: &HashMap<String, Vec<Leaf>>) -> bool {
    let (absent, present): (Vec<_>, Vec<_>) = conditions.iter().partition(|condition| condition.tests.is_empty());
    let of = |path: &str| leaves.get(path).map(Vec::as_slice).unwrap_or_default();
    let mut chosen: Vec<Trail> = vec![vec![]];
    for condition in present {
        let fits = |leaf: &&Leaf| condition.tests.iter().any(|test| test_holds(test, &leaf.value));
        let trails: Vec<&Trail> = of(&condition.path).iter().filter(fits).map(|leaf| &leaf.trail).collect();
        // A value further out needs fewer elements, so it is taken instead of those within.
        let outermost =
            |trail: &&&Trail| !trails.iter().any(|other| other.len() < trail.len() && trail.starts_with(other));
        let candidates: Vec<&Trail> = trails.iter().filter(outermost).copied().collect();
        chosen = chosen
            .iter()
            .flat_map(|one| {
                candidates
                    .iter()
                    .filter(|other| are_consistent(one, other))
                    .map(|other| [one.as_slice(), other].concat())
            })
            .collect();
        chosen.sort();
        chosen.dedup();
    }
    chosen.iter().any(|choice| {
        absent.iter().all(|condition| of(&condition.path).iter().all(|leaf| !are_consistent(choice, &leaf.trail)))
    })
}

fn are_consistent(one: &[(usize, usize)], other: &[(usize, usize)]) -> bool {
    one.iter().all(|(array, index)| other.iter().all(|(other, other_index)| array != other || index == other_index))
}

fn test_holds(test: &Json, value: &Json) -> bool {
    let Json::Object(entries) = test else { return equals(test, value) };
    let (operator, operand) = (&*entries[0].0, &entries[0].1);
    match (operator, operand, value) {
        ("exists", _, _) => true,
        ("anything-but", Json::Object(entries), value) => {
            let (operator, operand) = &entries[0];
            !list(operand).iter().any(|item| test_holds(&Json::Object(vec![(operator.clone(), item.clone())]), value))
        }
        ("anything-but", operand, value) => !list(operand).iter().any(|item| equals(item, value)),
        ("prefix", Json::Object(entries), Json::Text(seen)) => fold(seen).starts_with(&fold(text(&entries[0].1))),
        ("suffix", Json::Object(entries), Json::Text(seen)) => fold(seen).ends_with(&fold(text(&entries[0].1))),
        ("prefix", Json::Text(wanted), Json::Text(seen)) => seen.starts_with(wanted.as_str()),
        ("suffix", Json::Text(wanted), Json::Text(seen)) => seen.ends_with(wanted.as_str()),
        ("equals-ignore-case", Json::Text(wanted), Json::Text(seen)) => fold(wanted) == fold(seen),
        ("wildcard", Json::Text(wanted), Json::Text(seen)) => {
            wildcard(&symbols(wanted), &seen.chars().collect::<Vec<_>>())
        }
        ("cidr", Json::Text(wanted), Json::Text(seen)) => cidr(wanted, seen),
        ("numeric", Json::List(items), Json::Number(seen)) => items.chunks(2).all(|pair| {
            let Json::Number(bound) = &pair[1] else { panic!("a bound") };
            let order = compare(seen, bound);
            match text(&pair[0]) {
                "=" => order.is_eq(),
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                ">=" => order.is_ge(),
                other => panic!("{other}"),
            }
        }),
        _ => false,
    }
}

fn equals(wanted: &Json, seen: &Json) -> bool {
    match (wanted, seen) {
        (Json::Number(wanted), Json::Number(seen)) => compare(wanted, seen).is_eq(),
        _ => wanted == seen,
    }
}

fn list(operand: &Json) -> Vec<Json> {
    match operand {
        Json::List(items) => items.clone(),
        scalar => vec![scalar.clone()],
    }
}

fn text(json: &Json) -> &str {
    match json {
        Json::Text(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

fn fold(text: &str) -> String {
    let upper: String = text.chars().map(|char| char.to_uppercase().to_string()).collect();
    upper.chars().map(|char| char.to_lowercase().to_string()).collect()
}

/// Characters, with none for a star.
fn symbols(wildcard: &str) -> Vec<Option<char>> {
    let mut chars = wildcard.chars();
    let mut symbols = Vec::new();
    while let Some(char) = chars.next() {
        symbols.push(match char {
            '*' => None,
            '\\' => chars.next(),
            other => Some(other),
        });
    }
    symbols
}

fn wildcard(symbols: &[Option<char>], text: &[char]) -> bool {
    match symbols.split_first() {
        None => text.is_empty(),
        Some((None, rest)) => (0..=text.len()).any(|skip| wildcard(rest, &text[skip..])),
        Some((Some(char), rest)) => text.first() == Some(char) && wildcard(rest, &text[1..]),
    }
}

fn cidr(block: &str, address: &str) -> bool {
    let bits = |text: &str| -> Option<Vec<bool>> {
        let address: std::net::IpAddr = text.parse().ok()?;
        let bytes = match address.to_canonical() {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        };
        Some(bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect())
    };
    let (network, length) = block.split_once('/').unwrap();
    let is_mapped = network.starts_with("::ffff:");
    let (network, length) = (bits(network).unwrap(), length.parse::<usize>().unwrap() - if is_mapped { 96 } else { 0 });
    bits(address).is_some_and(|address| address.len() == network.len() && address[..length] == network[..length])
}

/// Compares two JSON numbers as decimal texts.
fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (decimal(one), decimal(other));
    let signed = |(negative, digits, point): &(bool, String, i64)| {
        if digits.is_empty() {
            (0, i64::MIN, String::new())
        } else {
            (if *negative { -1 } else { 1 }, *point, digits.clone())
        }
    };
    let (one, other) = (signed(&one), signed(&other));
    let size = (one.1, &one.2).cmp(&(other.1, &other.2));
    one.0.cmp(&other.0).then(if one.0 < 0 { size.reverse() } else { size })
}

/// The sign, the digits without zeros around them, and where the point stands, from the first digit.
fn decimal(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let point = whole.len() as i64 - zeros as i64 + exponent.trim_start_matches('+').parse::<i64>().unwrap();
    (negative, digits.trim_matches('0').to_owned(), point)
}
