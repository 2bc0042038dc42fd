//! The filters of a subscription, and how the matcher sees an event.

use std::borrow::Cow;

use synapse_hub_core::{Code, Error, Event, Result, TopicName};
use synapse_hub_matcher::{Attributes, Input, Pattern};

use crate::Limits;

/// The filters of a subscription: an event is wanted when any pattern matches, or when there is none.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    patterns: Vec<Pattern>,
}

impl Filters {
    /// No filter: all events.
    pub fn all() -> Self {
        Self::default()
    }

    /// Reads patterns in their JSON form.
    ///
    /// # Errors
    /// `too_many_filters`; `invalid_filter` with the path within the pattern.
    pub fn parse(texts: impl IntoIterator<Item = impl AsRef<str>>, limits: &Limits) -> Result<Self> {
        let mut patterns = Vec::new();
        for (index, text) in texts.into_iter().enumerate() {
            if index >= limits.subscription_filters {
                return Err(Error::new(
                    Code::TooManyFilters,
                    format!(
                        "more than {} filters in one subscription (`limits.subscription_filters`); use lists of values or `$or` within one pattern",
                        limits.subscription_filters
                    ),
                ));
            }
            let pattern = Pattern::parse(text.as_ref()).map_err(|error| {
                Error::new(Code::InvalidFilter, error.reason.to_string()).field(error.path.to_string())
            })?;
            patterns.push(pattern);
        }
        Ok(Self { patterns })
    }

    /// The patterns.
    pub(crate) fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether an event is wanted, evaluated one by one.
    pub(crate) fn matches(&self, topic: &TopicName, event: &Event) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        let attributes = EventAttributes { topic, event };
        let input = input(&attributes);
        self.patterns.iter().any(|pattern| pattern.matches(&input))
    }
}

/// An event as the matcher sees it: its attributes by their names in the flat view.
pub(crate) struct EventAttributes<'a> {
    pub(crate) topic: &'a TopicName,
    pub(crate) event: &'a Event,
}

impl Attributes for EventAttributes<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let text: &str = match name {
            "topic" => self.topic.as_str(),
            "event" => self.event.kind(),
            "timestamp" => return Some(Cow::Owned(self.event.time().to_string())),
            "source" => self.event.source(),
            "id" => self.event.id(),
            "correlation_id" => self.event.correlation_id(),
            _ => return None,
        };
        (!text.is_empty()).then_some(Cow::Borrowed(text))
    }
}

pub(crate) fn input<'a>(attributes: &'a EventAttributes<'a>) -> Input<'a> {
    let event = attributes.event;
    Input { attributes, data: if event.is_json() { event.data() } else { &[] } }
}
