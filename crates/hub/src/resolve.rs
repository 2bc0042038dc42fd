//! From a place in history as people write it to a position in each partition.

use synapse_hub_core::{Code, Error, PartitionId, Point, Position, Result, Timestamp, backend::EventLog};

/// Where reading `partition` starts: a position to read *after*.
pub(crate) async fn start(point: &Point, partition: &PartitionId, log: &dyn EventLog) -> Result<Position> {
    Ok(match point {
        // What is gone already is not asked for, and so no gap.
        Point::Earliest => {
            let bounds = log.bounds().await?;
            bounds.earliest.map_or(bounds.end, Position::before)
        }
        Point::Latest => log.bounds().await?.end,
        Point::Time(time) => log.find(*time).await?,
        // A position stands for the event at it, which is delivered.
        Point::Position(position) => position.before(),
        // What the cursor does not know came after it was made.
        Point::Cursor(cursor) => cursor.get(partition).unwrap_or(Position::START),
    })
}

/// Where reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// After this position.
    At(Position),
    /// Before the events that are stored at this time, which is yet to come.
    Time(Timestamp),
}

/// Where reading `partition` ends.
pub(crate) async fn end(point: &Point, partition: &PartitionId, log: &dyn EventLog) -> Result<End> {
    Ok(End::At(match point {
        Point::Earliest => Position::START,
        Point::Latest => log.bounds().await?.end,
        Point::Time(time) if *time > Timestamp::now() => return Ok(End::Time(*time)),
        Point::Time(time) => log.find(*time).await?,
        Point::Position(position) => *position,
        Point::Cursor(cursor) => cursor.get(partition).unwrap_or(Position::START),
    }))
}

/// Positions name events of one partition only.
pub(crate) fn check(point: &Point, single_partition: bool, parameter: &str) -> Result<()> {
    if matches!(point, Point::Position(_)) && !single_partition {
        return Err(Error::new(
            Code::InvalidReplayPoint,
            "a position names an event of one partition, but the subscription reads several; use a cursor or a time",
        )
        .field(parameter));
    }
    Ok(())
}
