//! One test of one value: the operators of the pattern language.

use std::net::IpAddr;

use serde_json::json;

use crate::{
    number::Number,
    text::{self, Wildcard},
};

/// A scalar of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Number(Number),
    True,
    False,
    Null,
}

impl Value<'_> {
    /// As JSON, for people.
    pub(crate) fn to_json(self) -> String {
        match self {
            Value::Text(text) => json!(text).to_string(),
            Value::Number(number) => number.to_string(),
            Value::True => "true".into(),
            Value::False => "false".into(),
            Value::Null => "null".into(),
        }
    }
}

/// A test of a field. All but [`Test::Absent`] are satisfied by a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Test {
    Null,
    True,
    False,
    Number(Number),
    Text(Box<str>),
    /// `equals-ignore-case`, folded; so are the other two.
    TextFolded(Box<str>),
    Prefix(Box<str>),
    PrefixFolded(Box<str>),
    Suffix(Box<str>),
    SuffixFolded(Box<str>),
    Wildcard(Box<Wildcard>),
    Numeric(Box<Bounds>),
    Cidr(Box<Network>),
    /// `anything-but`: none of these.
    Not(Box<[Test]>),
    Exists,
    Absent,
}

/// The bounds of a `numeric` test, each with whether it is itself allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    pub(crate) low: Option<(Number, bool)>,
    pub(crate) high: Option<(Number, bool)>,
}

impl Bounds {
    /// The lowest and the highest allowed number. Numbers are integers of limited length, so open bounds can be closed.
    pub(crate) fn closed(&self) -> (u128, u128) {
        let low = self.low.map_or(0, |(number, allowed)| number.bits() + u128::from(!allowed));
        let high = self.high.map_or(u128::MAX, |(number, allowed)| number.bits() - u128::from(!allowed));
        (low, high)
    }
}

/// A block of addresses. IPv4 is the part of IPv6 that is mapped for it, so both are numbers of 128 bits. A block of IPv6
/// that reaches around that part, such as `::/0`, does not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Network {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Network {
    /// Reads `10.0.0.0/24` or `2001:db8::/32`. Bits after the prefix do not count.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let (address, length) =
            text.split_once('/').ok_or("an address block is written as `10.0.0.0/24`: the `/` is missing")?;
        let address: IpAddr = address.parse().map_err(|_| "the part before the `/` is no IP address")?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: u32 = length.parse().ok().filter(|&length| digits && length <= bits).ok_or(match bits {
            32 => "the part after the `/` is a number from 0 to 32",
            _ => "the part after the `/` is a number from 0 to 128",
        })?;
        let host = u128::MAX.checked_shr(length + 128 - bits).unwrap_or(0);
        let address = address_bits(address);
        Ok(Self { first: address & !host, last: address | host })
    }

    /// The addresses in it, as one or two ranges of numbers.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u128, u128)> {
        let parts = if self.is_v4() {
            [(self.first, self.last), NO_RANGE]
        } else {
            [(self.first, self.last.min(V4_FIRST - 1)), (self.first.max(V4_LAST + 1), self.last)]
        };
        parts.into_iter().filter(|(first, last)| first <= last)
    }

    fn is_v4(&self) -> bool {
        V4_FIRST <= self.first && self.last <= V4_LAST
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = (self.first ^ self.last).leading_zeros();
        if self.is_v4() {
            return write!(f, "{}/{}", std::net::Ipv4Addr::from(self.first as u32), length - 96);
        }
        write!(f, "{}/{length}", std::net::Ipv6Addr::from(self.first))
    }
}

const V4_FIRST: u128 = 0xFFFF << 32;
const V4_LAST: u128 = V4_FIRST | 0xFFFF_FFFF;
const NO_RANGE: (u128, u128) = (1, 0);

/// The address as a number, IPv4 mapped into IPv6.
fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The number of an address, where the text is one.
pub(crate) fn address_of(text: &str) -> Option<u128> {
    // The longest address has 45 characters; anything else need not be looked at.
    let plausible =
        text.len() <= 45 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.' || byte == b':');
    if plausible { text.parse().ok().map(address_bits) } else { None }
}

impl Test {
    /// Whether this value satisfies the test.
    pub(crate) fn is_satisfied_by(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Test::Exists, _) | (Test::Null, Value::Null) | (Test::True, Value::True) | (Test::False, Value::False) => {
                true
            }
            (Test::Number(wanted), Value::Number(seen)) => *wanted == seen,
            (Test::Numeric(bounds), Value::Number(seen)) => {
                let (low, high) = bounds.closed();
                (low..=high).contains(&seen.bits())
            }
            (Test::Not(tests), value) => !tests.iter().any(|test| test.is_satisfied_by(value)),
            (test, Value::Text(seen)) => test.is_satisfied_by_text(seen),
            _ => false,
        }
    }

    fn is_satisfied_by_text(&self, seen: &str) -> bool {
        match self {
            Test::Text(wanted) => **wanted == *seen,
            Test::Prefix(wanted) => seen.starts_with(&**wanted),
            Test::Suffix(wanted) => seen.ends_with(&**wanted),
            Test::TextFolded(wanted) => text::is_folded(seen, wanted),
            Test::PrefixFolded(wanted) => text::starts_with_folded(seen, wanted),
            Test::SuffixFolded(wanted) => text::ends_with_folded(seen, wanted),
            Test::Wildcard(wildcard) => wildcard.is_match(seen),
            Test::Cidr(network) => address_of(seen)
                .is_some_and(|seen| network.ranges().any(|(first, last)| (first..=last).contains(&seen))),
            _ => false,
        }
    }

    /// As it stands in a pattern.
    pub(crate) fn to_json(&self) -> String {
        match self {
            Test::Null => "null".into(),
            Test::True => "true".into(),
            Test::False => "false".into(),
            Test::Number(number) => number.to_string(),
            Test::Text(text) => quote(text),
            Test::TextFolded(text) => format!(r#"{{"equals-ignore-case":{}}}"#, quote(text)),
            Test::Prefix(text) => format!(r#"{{"prefix":{}}}"#, quote(text)),
            Test::PrefixFolded(text) => format!(r#"{{"prefix":{{"equals-ignore-case":{}}}}}"#, quote(text)),
            Test::Suffix(text) => format!(r#"{{"suffix":{}}}"#, quote(text)),
            Test::SuffixFolded(text) => format!(r#"{{"suffix":{{"equals-ignore-case":{}}}}}"#, quote(text)),
            Test::Wildcard(wildcard) => format!(r#"{{"wildcard":{}}}"#, quote(wildcard.written())),
            Test::Numeric(bounds) => bounds.to_json(),
            Test::Cidr(network) => format!(r#"{{"cidr":"{network}"}}"#),
            Test::Not(tests) => not_to_json(tests),
            Test::Exists => r#"{"exists":true}"#.into(),
            Test::Absent => r#"{"exists":false}"#.into(),
        }
    }
}

impl Bounds {
    fn to_json(self) -> String {
        let part = |bound: Option<(Number, bool)>, sign: char| {
            bound.map(|(number, allowed)| format!(r#""{sign}{}",{number}"#, if allowed { "=" } else { "" }))
        };
        let parts: Vec<String> = part(self.low, '>').into_iter().chain(part(self.high, '<')).collect();
        format!(r#"{{"numeric":[{}]}}"#, parts.join(","))
    }
}

/// `anything-but` with its list; nested operators are written once, around the list of their texts.
fn not_to_json(tests: &[Test]) -> String {
    let nested = match tests.first() {
        Some(Test::TextFolded(_)) => Some("equals-ignore-case"),
        Some(Test::Prefix(_)) => Some("prefix"),
        Some(Test::Suffix(_)) => Some("suffix"),
        Some(Test::Wildcard(_)) => Some("wildcard"),
        _ => None,
    };
    let items: Vec<String> = tests
        .iter()
        .map(|test| match test {
            Test::TextFolded(text) | Test::Prefix(text) | Test::Suffix(text) => quote(text),
            Test::Wildcard(wildcard) => quote(wildcard.written()),
            other => other.to_json(),
        })
        .collect();
    let list = format!("[{}]", items.join(","));
    match nested {
        Some(operator) => format!(r#"{{"anything-but":{{"{operator}":{list}}}}}"#),
        None => format!(r#"{{"anything-but":{list}}}"#),
    }
}

/// The text as a JSON text.
pub(crate) fn quote(text: &str) -> String {
    json!(text).to_string()
}
