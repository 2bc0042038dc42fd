//! Where an event stands in its partition.

use std::{fmt, str::FromStr};

use crate::{Code, Error};

const MINOR_BITS: u32 = 56;
const INDEX_BITS: u32 = 24;
/// No event has this index, so it is only met just before one that has none.
const INDEX_MAX: u32 = (1 << INDEX_BITS) - 1;
const BEFORE: &str = "before-";

/// Where an event stands in its partition: opaque and ordered, with a text form and no arithmetic.
///
/// It is `major-minor.index`, of 48, 56 and 24 bits: a Redis stream id with an index into a packed entry, or an embedded
/// offset, or a Kafka offset. Parts that are zero are left out of the text from the right: `42`, `1735689600000-3`,
/// `1735689600000-3.17`. What looks like a Redis id keeps its minor part: `1735689600000-0`. The place between an event and
/// whatever came before it is `before-42`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u128);

impl Position {
    /// Before the first event of every partition.
    pub const START: Position = Position(0);
    /// After every possible event.
    pub const MAX: Position = Position(u128::MAX);

    /// The position of these parts; `None` when one does not fit its bits.
    pub const fn new(major: u64, minor: u64, index: u32) -> Option<Self> {
        if major >> 48 != 0 || minor >> MINOR_BITS != 0 || index >> INDEX_BITS != 0 {
            return None;
        }
        Some(Self(((major as u128) << (MINOR_BITS + INDEX_BITS)) | ((minor as u128) << INDEX_BITS) | index as u128))
    }

    /// The position of an offset, for logs that count.
    ///
    /// # Panics
    /// When the offset needs more than 48 bits, which takes 2.8e14 events.
    pub const fn offset(offset: u64) -> Self {
        match Self::new(offset, 0, 0) {
            Some(position) => position,
            None => panic!("an offset has at most 48 bits"),
        }
    }

    /// The first part: an offset, or the milliseconds of a Redis id.
    pub const fn major(self) -> u64 {
        (self.0 >> (MINOR_BITS + INDEX_BITS)) as u64
    }

    /// The second part: the sequence of a Redis id.
    pub const fn minor(self) -> u64 {
        ((self.0 >> INDEX_BITS) & ((1 << MINOR_BITS) - 1)) as u64
    }

    /// The third part: the index within a packed entry.
    pub const fn index(self) -> u32 {
        (self.0 & ((1 << INDEX_BITS) - 1)) as u32
    }

    /// The position just before this one in the order of positions: reading *after* it starts with this one.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.index() == INDEX_MAX && *self != Self::MAX {
            return write!(f, "{BEFORE}{}", Self(self.0 + 1));
        }
        let (major, minor, index) = (self.major(), self.minor(), self.index());
        match (minor, index) {
            // Milliseconds since 2001 are a Redis id; no log counts that far.
            (0, 0) if major < 1_000_000_000_000 => write!(f, "{major}"),
            (_, 0) => write!(f, "{major}-{minor}"),
            _ => write!(f, "{major}-{minor}.{index}"),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (is_before, event) = match text.strip_prefix(BEFORE) {
            Some(event) => (true, event),
            None => (false, text),
        };
        let parse = || {
            let (rest, index) = match event.split_once('.') {
                Some((rest, index)) => (rest, digits(index)?),
                None => (event, 0),
            };
            let (major, minor) = match rest.split_once('-') {
                Some((major, minor)) => (digits(major)?, digits(minor)?),
                None => (digits(rest)?, 0),
            };
            let position = Position::new(major, minor, u32::try_from(index).ok()?)?;
            Some(if is_before { position.before() } else { position })
        };
        parse().ok_or_else(|| {
            Error::new(
                Code::InvalidCursor,
                format!("{text:?} is not a position; positions look like `42` or `1735689600000-0`"),
            )
        })
    }
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text_form_and_keeps_its_order() {
        let parts = [
            (0, 0, 0),
            (1, 0, 0),
            (42, 0, 0),
            (1_735_689_600_000, 0, 0),
            (1_735_689_600_000, 7, 0),
            (1_735_689_600_000, 7, 9),
        ];
        let positions: Vec<_> = parts.iter().map(|&(a, b, c)| Position::new(a, b, c).unwrap()).collect();
        assert!(positions.is_sorted());
        for position in positions {
            for position in [position, position.before(), Position::MAX] {
                assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
            }
        }
        assert_eq!(Position::offset(7).before().to_string(), "before-7");
        assert_eq!(Position::new(1_735_689_600_000, 0, 0).unwrap().to_string(), "1735689600000-0");
        assert_eq!(Position::offset(42).to_string(), "42");
    }

    #[test]
    fn text_that_is_no_position_is_refused() {
        for text in [
            "",
            "-",
            "1-",
            "-1",
            "a",
            "1.",
            "1-2-3",
            "+1",
            "1 ",
            "999999999999999",
            "1-2.99999999",
            "before-",
            "before-before-1",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }
}
