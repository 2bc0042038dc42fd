//! The JSON of a pattern as a tree that keeps numbers exact and repeated keys visible.

use crate::{
    json::{Broken, DEPTH_MAX, Scalar, Scanner},
    number::Number,
};

#[derive(Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// Reads a whole JSON text. The error says what is wrong with it and where.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut scanner = Scanner::new(text);
        match value(&mut scanner, 0) {
            Ok(tree) if scanner.is_at_end() => Ok(tree),
            _ => Err(match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Err(error) => format!("this is not JSON: {error}"),
                Ok(_) => format!("this nests deeper than {DEPTH_MAX} levels"),
            }),
        }
    }

    pub(super) fn from_value(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Tree::Null,
            serde_json::Value::Bool(value) => Tree::Bool(*value),
            serde_json::Value::Number(number) => Tree::Number(Number::parse(number.to_string().as_bytes())),
            serde_json::Value::String(text) => Tree::Text(text.clone()),
            serde_json::Value::Array(items) => Tree::List(items.iter().map(Self::from_value).collect()),
            serde_json::Value::Object(map) => {
                Tree::Object(map.iter().map(|(key, value)| (key.clone(), Self::from_value(value))).collect())
            }
        }
    }

    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "null",
            Tree::Bool(_) => "true or false",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "a text",
            Tree::List(_) => "a list",
            Tree::Object(_) => "an object",
        }
    }
}

fn value(scanner: &mut Scanner<'_>, depth: u32) -> Result<Tree, Broken> {
    let mut buffer = String::new();
    match scanner.peek()? {
        b'{' | b'[' if depth >= DEPTH_MAX => Err(Broken),
        b'{' => {
            scanner.expect(b'{')?;
            let mut entries = Vec::new();
            if !scanner.take(b'}')? {
                loop {
                    let key = scanner.key()?;
                    let key = scanner.text(key, &mut buffer).to_owned();
                    entries.push((key, value(scanner, depth + 1)?));
                    if !scanner.more(b'}')? {
                        break;
                    }
                }
            }
            Ok(Tree::Object(entries))
        }
        b'[' => {
            scanner.expect(b'[')?;
            let mut items = Vec::new();
            if !scanner.take(b']')? {
                loop {
                    items.push(value(scanner, depth + 1)?);
                    if !scanner.more(b']')? {
                        break;
                    }
                }
            }
            Ok(Tree::List(items))
        }
        _ => Ok(match scanner.scalar()? {
            Scalar::Text(quoted) => Tree::Text(scanner.text(quoted, &mut buffer).to_owned()),
            Scalar::Number(number) => Tree::Number(number),
            Scalar::True => Tree::Bool(true),
            Scalar::False => Tree::Bool(false),
            Scalar::Null => Tree::Null,
        }),
    }
}
