//! The small languages of requests: positions, cursors, replay points, topic patterns, times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synapse_hub_core::{Cursor, Point, Position, Timestamp, TopicName, TopicPattern};

fuzz_target!(|text: &str| {
    let _ = text.parse::<Point>();
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string().parse::<Position>().expect("a position has a text"), position);
        assert!(position == Position::START || position.before() < position);
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string().parse::<Cursor>().expect("a cursor has a text"), cursor);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        assert_eq!(time.to_string().parse::<Timestamp>().expect("a time has a text"), time);
    }
    if let Ok(name) = text.parse::<TopicName>() {
        let pattern = name.as_str().parse::<TopicPattern>().expect("a name is a pattern");
        assert!(pattern.matches(&name));
    }
    if let Some((pattern, name)) = text.split_once(' ')
        && let (Ok(pattern), Ok(name)) = (pattern.parse::<TopicPattern>(), name.parse::<TopicName>())
    {
        let _ = pattern.matches(&name);
        assert_eq!(pattern.to_string().parse::<TopicPattern>().expect("a pattern has a text"), pattern);
    }
});
