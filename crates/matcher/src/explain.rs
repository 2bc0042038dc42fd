//! Why an event matched a pattern, or did not.

use serde::Serialize;

use crate::{
    Input, Pattern, Scratch,
    input::Source,
    paths::Paths,
    pattern::{All, Field, Or, tests_to_json},
    test::Test,
    view::View,
};

/// Whether an event matched a pattern; if not, the first predicate that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether it matched.
    pub matched: bool,
    /// What failed first, in the order in which the pattern is written. None if it matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A predicate that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The path of the field, or of the `$or`.
    pub path: String,
    /// What the pattern wants there, as JSON.
    pub wanted: String,
    /// What the event has there, as JSON: one value or a list, cut off after some; none if it has nothing there.
    pub seen: Option<String>,
    /// In words.
    pub reason: String,
    /// For `$or`: what failed in each of its members.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Failure>,
}

/// How much of an event is shown.
const VALUES_MAX: usize = 16;
const TEXT_MAX: usize = 256;

pub(crate) fn explain(pattern: &Pattern, input: &Input<'_>) -> Explanation {
    let mut scratch = Scratch::default();
    if pattern.matches_with(input, &mut scratch) {
        return Explanation { matched: true, failure: None };
    }
    let paths = pattern.compiled().paths();
    let data = scratch.view.read(paths, input.attributes, Source::Json(input.data));
    let reader = Reader { view: &scratch.view, data, paths };
    let failure = reader.all(pattern.all()).unwrap_or_else(|| reader.arrays(pattern));
    Explanation { matched: false, failure: Some(failure) }
}

struct Reader<'r> {
    view: &'r View,
    data: &'r str,
    paths: &'r Paths,
}

impl Reader<'_> {
    fn all(&self, all: &All) -> Option<Failure> {
        all.fields.iter().find_map(|field| self.field(field)).or_else(|| all.ors.iter().find_map(|or| self.or(or)))
    }

    fn field(&self, field: &Field) -> Option<Failure> {
        let seen = self.seen(&field.path);
        let wants_absence = field.tests.contains(&Test::Absent);
        let is_satisfied = if seen.is_empty() { wants_absence } else { self.any_satisfies(field) };
        // Absence may hold in the element that other fields choose.
        if is_satisfied || wants_absence && self.only_in_arrays(&field.path) {
            return None;
        }
        let reason = if seen.is_empty() {
            "the event has no value there"
        } else if field.tests == [Test::Absent] {
            "the event has a value there"
        } else if seen.len() == 1 {
            "the value satisfies none of what is wanted"
        } else {
            "no value there satisfies any of what is wanted"
        };
        Some(Failure {
            path: field.path.clone(),
            wanted: tests_to_json(&field.tests),
            seen: shown(&seen),
            reason: reason.into(),
            members: Vec::new(),
        })
    }

    fn or(&self, or: &Or) -> Option<Failure> {
        let members = or.members.iter().map(|member| self.all(member)).collect::<Option<Vec<Failure>>>()?;
        let path = if or.path.is_empty() { "$or".to_owned() } else { format!("{}.$or", or.path) };
        let (wanted, reason) = (or.members_to_json(), "no member matches".to_owned());
        Some(Failure { path, wanted, seen: None, reason, members })
    }

    /// Every field is satisfied for itself, but not all in the same element.
    fn arrays(&self, pattern: &Pattern) -> Failure {
        let conditions = pattern.compiled().alternatives().next().into_iter().flatten();
        let paths: Vec<&str> = conditions
            .filter(|condition| self.in_array(&condition.path))
            .map(|condition| condition.path.as_str())
            .collect();
        Failure {
            path: paths.join(", "),
            wanted: pattern.to_json().to_owned(),
            seen: None,
            reason: "each field matches somewhere, but no one element of the array matches them all".into(),
            members: Vec::new(),
        }
    }

    fn id(&self, path: &str) -> Option<u32> {
        self.paths.find(path)
    }

    fn seen(&self, path: &str) -> Vec<String> {
        let values = self.id(path).into_iter().flat_map(|id| self.view.values(id));
        values.take(VALUES_MAX + 1).map(|found| self.view.value(found, self.data).to_json()).collect()
    }

    fn any_satisfies(&self, field: &Field) -> bool {
        let mut values = self.id(&field.path).into_iter().flat_map(|id| self.view.values(id));
        values.any(|found| field.tests.iter().any(|test| test.is_satisfied_by(self.view.value(found, self.data))))
    }

    fn in_array(&self, path: &str) -> bool {
        self.id(path).into_iter().flat_map(|id| self.view.values(id)).any(|found| found.trail != 0)
    }

    fn only_in_arrays(&self, path: &str) -> bool {
        self.id(path).into_iter().flat_map(|id| self.view.values(id)).all(|found| found.trail != 0)
    }
}

fn shown(seen: &[String]) -> Option<String> {
    let mut cut: Vec<String> = seen.iter().take(VALUES_MAX).map(|value| cut_off(value)).collect();
    if seen.len() > VALUES_MAX {
        cut.push("…".into());
    }
    match cut.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(","))),
    }
}

fn cut_off(value: &str) -> String {
    match value.char_indices().nth(TEXT_MAX) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}
