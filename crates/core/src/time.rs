//! Moments: nanoseconds since the epoch, in UTC.

use std::{fmt, str::FromStr, time::SystemTime};

use jiff::{civil, fmt::temporal::Pieces, tz::TimeZone};

use crate::{Code, Error};

/// A moment: nanoseconds since 1970-01-01T00:00:00Z, between the years 1678 and 2262.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many nanoseconds after the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The moment this many milliseconds after the epoch, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The clock of this machine.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// This moment less a duration, saturating.
    #[must_use]
    pub fn minus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with as many digits as it needs: `2025-01-01T00:00:00Z`, `2025-01-01T00:00:00.5Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => fmt::Display::fmt(&timestamp, f),
            Err(_) => f.write_str("1970-01-01T00:00:00Z"),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// RFC 3339; without a zone it is UTC; a date alone is its midnight.
    fn from_str(text: &str) -> Result<Self, Error> {
        let zoned = text.parse::<jiff::Timestamp>().ok();
        let parsed = zoned.or_else(|| {
            let civil = text.parse::<civil::DateTime>().ok()?;
            TimeZone::UTC.to_timestamp(civil).ok()
        });
        parsed.and_then(|timestamp| i64::try_from(timestamp.as_nanosecond()).ok()).map(Self).ok_or_else(|| {
            let what = out_of_range(text).unwrap_or_else(|| {
                let shown: String = text.chars().take(60).collect();
                format!("{shown:?} is not a time; write it as in RFC 3339, for instance 2025-01-01T12:00:00Z")
            });
            Error::new(Code::InvalidTimestamp, what)
        })
    }
}

/// What to say of a text that is a time, but one that no [`Timestamp`] reaches.
pub(crate) fn out_of_range(text: &str) -> Option<String> {
    let year = Pieces::parse(text).ok()?.date().year();
    let known = (1678..=2261).contains(&year);
    (!known).then(|| format!("the year {year} is out of range; times are from 1678 to 2261"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_and_utc_when_no_zone_is_given() {
        for (text, expected) in [
            ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
            ("2025-01-01T02:00:00+02:00", "2025-01-01T00:00:00Z"),
            ("2025-01-01T00:00:00", "2025-01-01T00:00:00Z"),
            ("2025-01-01 00:00:00.123456", "2025-01-01T00:00:00.123456Z"),
            ("2025-01-01", "2025-01-01T00:00:00Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), expected, "{text}");
        }
        for text in ["1600-01-01", "9999-12-31T23:59:59Z", "2300-01-01T00:00:00+02:00"] {
            let error = text.parse::<Timestamp>().unwrap_err();
            assert!(error.message().contains("from 1678 to 2261"), "{text}: {error}");
        }
        for text in ["", "yesterday", "2025-13-01", "25-01-01", "1735689600"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
    }
}
