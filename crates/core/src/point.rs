//! A place in history as people write it: `replay_from` and `until`.

use std::{str::FromStr, time::Duration};

use crate::{Code, Cursor, Error, Position, Timestamp, time};

/// A place in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// The first event that is still there.
    Earliest,
    /// The end, as it is when the question is asked.
    Latest,
    /// A moment, by the time at which the log stored the events.
    Time(Timestamp),
    /// A position, for subscriptions of one partition.
    Position(Position),
    /// The cursor of an earlier event.
    Cursor(Cursor),
}

impl FromStr for Point {
    type Err = Error;

    /// `earliest`, `latest`, a date or date-time, a duration ago (`-90m`), a position, or a cursor.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            "now" => return Ok(Self::Time(Timestamp::now())),
            _ => {}
        }
        if text.contains('@') {
            return text.parse().map(Self::Cursor);
        }
        if let Some(duration) = text.strip_prefix('-').and_then(duration) {
            return Ok(Self::Time(Timestamp::now().minus(duration)));
        }
        if is_month(text) {
            let what = format!("{text} may be a month or a position; write a month by its first day, {text}-01");
            return Err(Error::new(Code::InvalidReplayPoint, what));
        }
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::Time(time));
        }
        if let Some(what) = time::out_of_range(text) {
            return Err(Error::new(Code::InvalidReplayPoint, what));
        }
        let shown: String = text.chars().take(80).collect();
        Err(Error::new(
            Code::InvalidReplayPoint,
            format!(
                "{shown:?} is no place in history; write `earliest`, `latest`, a date (2025-01-01), a date-time \
                 (2025-01-01T12:00:00Z), a duration ago (-90m), a position (1735689600000-0) or a cursor"
            ),
        ))
    }
}

/// `2025-01`. As a position it is of no use: ids of Redis were that small in 1970, and offsets have no second part.
fn is_month(text: &str) -> bool {
    let Some((year, month)) = text.split_once('-') else { return false };
    let digits = |text: &str, range: std::ops::RangeInclusive<u32>| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|number| range.contains(&number))
    };
    year.len() == 4 && month.len() == 2 && digits(year, 1678..=2261) && digits(month, 1..=12)
}

/// `90m`, `1h30m`, `7d`, `1.5h`: numbers with the units ms, s, m, h, d, w.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..number].parse().ok()?;
        rest = &rest[number..];
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        seconds += value
            * match &rest[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                "w" => 604_800.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_point_is_understood() {
        assert_eq!("earliest".parse::<Point>().unwrap(), Point::Earliest);
        assert_eq!("latest".parse::<Point>().unwrap(), Point::Latest);
        assert!(matches!("2025-01-01".parse().unwrap(), Point::Time(_)));
        assert!(matches!("2025-01-01T10:00:00+01:00".parse().unwrap(), Point::Time(_)));
        assert!(matches!("-90m".parse().unwrap(), Point::Time(_)));
        assert!(matches!("-1h30m".parse().unwrap(), Point::Time(_)));
        assert!(matches!("42".parse().unwrap(), Point::Position(_)));
        assert!(matches!("20250101".parse().unwrap(), Point::Position(_)), "digits alone are an offset");
        assert!(matches!("1735689600000-0".parse().unwrap(), Point::Position(_)));
        assert!(matches!("model-events/0@42".parse().unwrap(), Point::Cursor(_)));
        for (text, hint) in [("2025-01", "2025-01-01"), ("9999-12-31", "from 1678 to 2261")] {
            let error = text.parse::<Point>().unwrap_err();
            assert_eq!(error.code(), Code::InvalidReplayPoint);
            assert!(error.message().contains(hint), "{text}: {error}");
        }
        for text in ["", "soon", "-", "-5x", "2025-1-1x", "@"] {
            assert!(text.parse::<Point>().is_err(), "{text:?}");
        }
    }
}
