//! Query parameters, read strictly: what is not known, or given twice, is refused rather than ignored.

use http::Uri;
use percent_encoding::percent_decode_str;
use synapse_hub_core::Point;

use super::problem::{Failure, Result};

/// The parameters of a request that were not taken yet.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(uri: &Uri) -> Result<Self> {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, "a parameter's name")?, decode(value, name)?))
        });
        pairs.collect::<Result<_>>().map(Self)
    }

    /// All values of a parameter, in order.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        self.0.retain_mut(|(known, value)| {
            let wanted = known == name;
            if wanted {
                values.push(std::mem::take(value));
            }
            !wanted
        });
        values
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(Failure::argument(name, format!("the parameter `{name}` is given {} times", values.len())));
        }
        Ok(values.pop())
    }

    /// A parameter that says yes or no; without a value it says yes.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool> {
        match self.one(name)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Failure::argument(name, format!("`{name}` is `true` or `false`"))),
        }
    }

    /// A parameter that is a number from 1 on.
    pub(crate) fn number(&mut self, name: &str, default: usize, most: usize) -> Result<usize> {
        let Some(text) = self.one(name)? else { return Ok(default.min(most)) };
        match text.parse::<usize>() {
            Ok(number) if (1..=most).contains(&number) => Ok(number),
            _ => Err(Failure::argument(name, format!("`{name}` is a number from 1 to {most}"))),
        }
    }

    /// A place in history.
    pub(crate) fn point(&mut self, name: &str) -> Result<Option<Point>> {
        let Some(text) = self.one(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        let parsed = text.parse::<Point>().or_else(|error| {
            // In a query a bare `+` means a space; in `…T12:00:00+02:00` it was meant as a plus.
            let plus = text.rfind(' ').map(|at| format!("{}+{}", &text[..at], &text[at + 1..]));
            plus.and_then(|text| text.parse().ok()).ok_or(error)
        });
        parsed.map(Some).map_err(|error| error.field(name).into())
    }

    /// All parameters whose name starts with `prefix`, without it.
    pub(crate) fn prefixed(&mut self, prefix: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        self.0.retain_mut(|(name, value)| match name.strip_prefix(prefix) {
            Some(rest) => {
                pairs.push((rest.to_owned(), std::mem::take(value)));
                false
            }
            None => true,
        });
        pairs
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self, known: &str) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => {
                let shown: String = name.chars().take(60).collect();
                let known = if known.is_empty() { "there are none here" } else { known };
                Err(Failure::argument(&shown, format!("there is no parameter `{shown}` here; known: {known}")))
            }
        }
    }
}

fn decode(text: &str, name: &str) -> Result<String> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| Failure::argument(name, "it is not UTF-8 when percent-decoded"))
}
