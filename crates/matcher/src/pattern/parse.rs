//! From the JSON of a pattern to fields and tests, refusing what cannot be right.

use super::{All, Field, Limits, Or, PatternError, tree::Tree};
use crate::{
    number::Number,
    test::{Bounds, Network, Test},
    text::{Wildcard, folded},
};

/// The operators. As names of fields they need a list as their value, so that a forgotten `[…]` is noticed.
const OPERATORS: [&str; 8] =
    ["prefix", "suffix", "equals-ignore-case", "wildcard", "anything-but", "numeric", "cidr", "exists"];

pub(super) struct Parser<'l> {
    limits: &'l Limits,
    tests: usize,
    wildcards: usize,
    /// The keys so far, each after a NUL.
    path: String,
}

type Result<T> = std::result::Result<T, PatternError>;

impl<'l> Parser<'l> {
    pub(super) fn new(limits: &'l Limits) -> Self {
        Self { limits, tests: 0, wildcards: 0, path: String::new() }
    }

    pub(super) fn pattern(mut self, tree: Tree) -> Result<All> {
        let Tree::Object(entries) = tree else {
            return self.refuse(format!(
                r#"a pattern is an object such as {{"event": ["model-ready"]}}, not {}"#,
                tree.kind()
            ));
        };
        let mut all = All::default();
        self.object(entries, 1, &mut all)?;
        Ok(all)
    }

    /// The fields of one object; `depth` counts the segments of the path and the `$or`s around.
    fn object(&mut self, entries: Vec<(String, Tree)>, depth: usize, all: &mut All) -> Result<()> {
        if entries.is_empty() {
            return self.refuse("an empty object matches everything: leave it out, or name a field in it");
        }
        let mut seen: Vec<String> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if seen.contains(&key) {
                return self.within(&key, |parser| parser.refuse("this key stands here twice"));
            }
            seen.push(key.clone());
            self.within(&key, |parser| parser.entry(&key, value, depth, all))?;
        }
        Ok(())
    }

    fn entry(&mut self, key: &str, value: Tree, depth: usize, all: &mut All) -> Result<()> {
        let segments = if key == "$or" { 1 } else { key.split('.').count() };
        if depth + segments - 1 > self.limits.depth {
            return self.refuse(format!("deeper than {} levels", self.limits.depth));
        }
        if key == "$or" {
            return self.or(value, depth, all);
        }
        if key.split('.').any(str::is_empty) {
            return self.refuse("a part of the path is empty: write keys as `a.b`, with something around each dot");
        }
        if OPERATORS.contains(&key) && !is_field_value(key, &value) {
            return self.refuse(format!(
                r#"`{key}` is an operator, which stands in a list: {{"field": [{{"{key}": …}}]}} (for a field of this name, put its values in a list)"#
            ));
        }
        match value {
            Tree::Object(entries) => self.object(entries, depth + segments, all),
            Tree::List(items) => self.field(items, all),
            scalar => self.field(vec![scalar], all),
        }
    }

    fn or(&mut self, value: Tree, depth: usize, all: &mut All) -> Result<()> {
        let Tree::List(items) = value else {
            return self.refuse(format!("`$or` takes a list of at least two objects, not {}", value.kind()));
        };
        if items.len() < 2 {
            return self.refuse(format!("`$or` takes a list of at least two objects; here are {}", items.len()));
        }
        let mut members = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let member = self.within(&index.to_string(), |parser| {
                let Tree::Object(entries) = item else {
                    return parser.refuse(format!("`$or` takes objects, not {}", item.kind()));
                };
                let mut member = All::default();
                parser.object(entries, depth + 1, &mut member)?;
                Ok(member)
            })?;
            members.push(member);
        }
        let path = self.event_path();
        if !path.is_empty() && all.names(&path) {
            return self.refuse(TWICE);
        }
        all.ors.push(Or { path, members });
        Ok(())
    }

    fn field(&mut self, items: Vec<Tree>, all: &mut All) -> Result<()> {
        if items.is_empty() {
            return self.refuse("an empty list matches nothing: name at least one value");
        }
        let mut tests = Vec::with_capacity(items.len());
        for item in items {
            let test = self.test(item)?;
            self.count(1)?;
            tests.push(test);
        }
        let path = self.event_path();
        if all.names(&path) {
            return self.refuse(TWICE);
        }
        all.fields.push(Field { path, tests });
        Ok(())
    }

    fn test(&mut self, tree: Tree) -> Result<Test> {
        Ok(match tree {
            Tree::Null => Test::Null,
            Tree::Bool(true) => Test::True,
            Tree::Bool(false) => Test::False,
            Tree::Number(number) => Test::Number(number),
            Tree::Text(text) => Test::Text(text.into()),
            Tree::List(_) => return self.refuse("a list within a list: the values stand in one list"),
            Tree::Object(mut entries) => {
                let (operator, operand) = match entries.pop() {
                    Some(entry) if entries.is_empty() => entry,
                    Some(_) => return self.refuse("one operator an object: write the others as items of their own"),
                    None => return self.refuse("an empty object in a list of values: an operator is missing"),
                };
                return self.within(&operator, |parser| parser.operator(&operator, operand));
            }
        })
    }

    fn operator(&mut self, operator: &str, operand: Tree) -> Result<Test> {
        match operator {
            "prefix" => self.affix(operand, Test::Prefix, Test::PrefixFolded),
            "suffix" => self.affix(operand, Test::Suffix, Test::SuffixFolded),
            "equals-ignore-case" => Ok(Test::TextFolded(folded(&self.text(operand)?))),
            "wildcard" => {
                let text = self.text(operand)?;
                self.wildcard(&text)
            }
            "anything-but" => self.anything_but(operand),
            "numeric" => self.numeric(operand),
            "cidr" => {
                let text = self.text(operand)?;
                Network::parse(&text).map(|network| Test::Cidr(Box::new(network))).or_else(|reason| self.refuse(reason))
            }
            "exists" => match operand {
                Tree::Bool(true) => Ok(Test::Exists),
                Tree::Bool(false) => Ok(Test::Absent),
                other => self.refuse(format!("`exists` takes true or false, not {}", other.kind())),
            },
            _ => self.refuse(format!("unknown operator; there are {}", OPERATORS.join(", "))),
        }
    }

    /// `prefix` and `suffix`: a text, or `{"equals-ignore-case": text}`.
    fn affix(&mut self, operand: Tree, plain: fn(Box<str>) -> Test, blind: fn(Box<str>) -> Test) -> Result<Test> {
        match operand {
            Tree::Object(mut entries) if entries.len() == 1 && entries[0].0 == "equals-ignore-case" => {
                let (key, operand) = entries.remove(0);
                self.within(&key, |parser| Ok(blind(folded(&parser.text(operand)?))))
            }
            Tree::Object(_) => self.refuse("only `equals-ignore-case` can stand in here"),
            other => Ok(plain(self.text(other)?.into())),
        }
    }

    fn wildcard(&mut self, text: &str) -> Result<Test> {
        let wildcard = Wildcard::parse(text).or_else(|reason| self.refuse(reason))?;
        self.wildcards += wildcard.complexity();
        if self.wildcards > self.limits.wildcard_complexity {
            return self.refuse(format!(
                "too complex: the wildcards of a pattern may add up to {}, counting for each its bytes times its stars",
                self.limits.wildcard_complexity
            ));
        }
        Ok(Test::Wildcard(Box::new(wildcard)))
    }

    fn anything_but(&mut self, operand: Tree) -> Result<Test> {
        let items = match operand {
            Tree::Object(mut entries) => {
                let (operator, operand) = match entries.pop() {
                    Some(entry) if entries.is_empty() => entry,
                    _ => return self.refuse("`anything-but` takes one operator"),
                };
                return self.within(&operator, |parser| parser.anything_but_operator(&operator, operand));
            }
            Tree::List(items) => items,
            scalar => vec![scalar],
        };
        let mut tests = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Tree::Text(text) => tests.push(Test::Text(text.into())),
                Tree::Number(number) => tests.push(Test::Number(number)),
                other => return self.refuse(format!("`anything-but` takes texts or numbers, not {}", other.kind())),
            }
        }
        let texts = tests.iter().filter(|test| matches!(test, Test::Text(_))).count();
        if texts != 0 && texts != tests.len() {
            return self.refuse(
                "`anything-but` takes texts or numbers, not both: write two patterns joined by a second field or `$or`",
            );
        }
        self.not(tests)
    }

    fn anything_but_operator(&mut self, operator: &str, operand: Tree) -> Result<Test> {
        if !["prefix", "suffix", "equals-ignore-case", "wildcard"].contains(&operator) {
            return self.refuse("within `anything-but` there can be prefix, suffix, equals-ignore-case, wildcard");
        }
        let items = match operand {
            Tree::List(items) => items,
            scalar => vec![scalar],
        };
        let mut tests = Vec::with_capacity(items.len());
        for item in items {
            let text = self.text(item)?;
            tests.push(match operator {
                "prefix" | "suffix" if text.is_empty() => {
                    return self.refuse(format!("every text has the empty {operator}: this matches no text"));
                }
                "prefix" => Test::Prefix(text.into()),
                "suffix" => Test::Suffix(text.into()),
                "equals-ignore-case" => Test::TextFolded(folded(&text)),
                _ => self.wildcard(&text)?,
            });
        }
        self.not(tests)
    }

    fn not(&mut self, tests: Vec<Test>) -> Result<Test> {
        if tests.is_empty() {
            return self.refuse("an empty list excludes nothing: name at least one value");
        }
        self.count(tests.len() - 1)?;
        Ok(Test::Not(tests.into()))
    }

    fn numeric(&mut self, operand: Tree) -> Result<Test> {
        let Tree::List(items) = operand else {
            return self.refuse(format!(r#"`numeric` takes a list such as [">", 0, "<=", 5], not {}"#, operand.kind()));
        };
        let mut bounds = Bounds { low: None, high: None };
        let count = items.len();
        let mut items = items.into_iter();
        while let Some(sign) = items.next() {
            let Tree::Text(sign) = sign else {
                return self.refuse(format!("a comparison (= < <= > >=) must stand here, not {}", sign.kind()));
            };
            let number = match items.next() {
                Some(Tree::Number(number)) => number,
                Some(other) => return self.refuse(format!("a number must follow `{sign}`, not {}", other.kind())),
                None => return self.refuse(format!("a number must follow `{sign}`")),
            };
            match &*sign {
                "=" if count == 2 => return Ok(Test::Number(number)),
                "=" => return self.refuse("`=` stands alone"),
                ">" | ">=" => self.bound(&mut bounds.low, number, &sign)?,
                "<" | "<=" => self.bound(&mut bounds.high, number, &sign)?,
                _ => return self.refuse(format!("`{sign}` is no comparison; there are = < <= > >=")),
            }
        }
        if bounds.low.is_none() && bounds.high.is_none() {
            return self.refuse(r#"`numeric` takes a list such as [">", 0, "<=", 5], not an empty one"#);
        }
        let (low, high) = bounds.closed();
        if low > high {
            return self.refuse("no number is in this range");
        }
        Ok(Test::Numeric(Box::new(bounds)))
    }

    fn bound(&mut self, bound: &mut Option<(Number, bool)>, number: Number, sign: &str) -> Result<()> {
        if bound.is_some() {
            return self.refuse("one lower and one upper bound at most");
        }
        *bound = Some((number, sign.ends_with('=')));
        Ok(())
    }

    fn text(&mut self, tree: Tree) -> Result<String> {
        match tree {
            Tree::Text(text) => Ok(text),
            other => self.refuse(format!("a text must stand here, not {}", other.kind())),
        }
    }

    fn count(&mut self, tests: usize) -> Result<()> {
        self.tests += tests;
        if self.tests > self.limits.predicates {
            return self.refuse(format!("more than {} values and operators in one pattern", self.limits.predicates));
        }
        Ok(())
    }

    /// Does something one key further in, so that errors name the place.
    fn within<T>(&mut self, key: &str, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let length = self.path.len();
        self.path.push('\u{0}');
        self.path.push_str(key);
        let outcome = act(self);
        self.path.truncate(length);
        outcome
    }

    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T> {
        let path = self.path.strip_prefix('\u{0}').unwrap_or_default().replace('\u{0}', ".");
        Err(PatternError { path, reason: reason.into() })
    }

    /// The path in the event: without the `$or`s and their numbers.
    fn event_path(&self) -> String {
        let mut keys = self.path.split('\u{0}').skip(1);
        let mut path = String::new();
        while let Some(key) = keys.next() {
            if key == "$or" {
                keys.next();
                continue;
            }
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key);
        }
        path
    }
}

const TWICE: &str = "this path is named twice, once with a dotted key and once nested: write it once";

impl All {
    fn names(&self, path: &str) -> bool {
        self.fields.iter().any(|field| field.path == path) || self.ors.iter().any(|or| or.path == path)
    }
}

/// Whether the value under an operator's name can be meant as the values of a field of that name.
fn is_field_value(operator: &str, value: &Tree) -> bool {
    match (operator, value) {
        ("anything-but" | "equals-ignore-case", _) => false,
        ("numeric", Tree::List(items)) => {
            !matches!(items.first(), Some(Tree::Text(sign)) if ["=", "<", "<=", ">", ">="].contains(&sign.as_str()))
        }
        (_, Tree::List(_)) => true,
        (_, Tree::Object(entries)) => !entries.iter().any(|(key, _)| key == "equals-ignore-case"),
        _ => false,
    }
}
