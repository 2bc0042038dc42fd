//! One partition as the hub sees it.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use synapse_hub_core::{
    Code, Error, Position, Result, Timestamp,
    backend::{Append, Bounds, Commit, EventLog, ReadItem, ReadLimits, Trim, Trimmed},
    batch,
};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    partition::{Look, Partition, batch_at},
    store::{BatchHeader, Engine, Store, batch_key, failed, offset_of},
    writer::{Command, Request, encode_value},
};

/// How long a reader waits for the engine while it is opened again.
const ENGINE_WAIT: Duration = Duration::from_millis(20);

/// A way to the writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) stop: watch::Sender<bool>,
}

pub(crate) struct Log {
    pub(crate) partition: Arc<Partition>,
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Queue,
}

pub(crate) fn stopping() -> Error {
    Error::new(Code::ShuttingDown, "the embedded log is closed")
}

impl Queue {
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

#[async_trait]
impl EventLog for Log {
    async fn append(&self, mut append: Append) -> Result<Commit> {
        let options = &self.store.options;
        if let Some(index) = append.events.iter().position(|event| event.size() > options.event_bytes_max) {
            let what = format!("the embedded log takes events of at most {} bytes", options.event_bytes_max);
            return Err(Error::new(Code::EventTooLarge, what).index(index));
        }
        if *self.queue.stop.borrow() {
            return Err(stopping());
        }
        batch::seal(&mut append.events);
        let value = encode_value(&append.events, options.zstd_level);
        let size = u32::try_from(value.len().clamp(1, options.append_bytes_max)).unwrap_or(u32::MAX);
        let room = self.queue.room.clone().acquire_many_owned(size).await.map_err(|_| stopping())?;
        let (reply, answer) = oneshot::channel();
        let request = Request { partition: self.partition.clone(), append, value, reply, _room: room };
        self.queue.commands.send(Command::Append(Box::new(request))).map_err(|_| stopping())?;
        Ok(async move { answer.await.map_err(|_| stopping())? }.boxed())
    }

    fn read(
        &self,
        after: Position,
        until: Option<Position>,
        limits: ReadLimits,
    ) -> BoxStream<'static, Result<ReadItem>> {
        let reader = Reader { partition: self.partition.clone(), store: self.store.clone(), limits };
        let mut stop = self.queue.stop.subscribe();
        let mut after = after.major();
        let until = until.map(Position::major);
        async_stream::stream! {
            let mut end = reader.partition.end.subscribe();
            loop {
                let seen = *end.borrow_and_update();
                if reader.partition.is_deleted() {
                    yield Err(Error::new(Code::TopicNotFound, "the topic was deleted"));
                    return;
                }
                if until.is_some_and(|until| after >= until) {
                    return;
                }
                let upper = until.map_or(seen, |until| until.min(seen));
                if after < upper {
                    match reader.next(after, upper).await {
                        Ok(Look::Item(item, last)) => {
                            after = last;
                            yield Ok(item);
                        }
                        Ok(Look::Nothing(last)) => after = last,
                        Err(error) => {
                            yield Err(error);
                            return;
                        }
                    }
                    continue;
                }
                if *stop.borrow() {
                    yield Err(stopping());
                    return;
                }
                tokio::select! {
                    changed = end.changed() => if changed.is_err() { return },
                    changed = stop.changed() => if changed.is_err() { return },
                }
            }
        }
        .boxed()
    }

    async fn bounds(&self) -> Result<Bounds> {
        let state = self.partition.state();
        let end = Position::offset(*self.partition.end.borrow());
        if state.events == 0 {
            return Ok(Bounds { end, events: Some(0), bytes: Some(0), ..Bounds::default() });
        }
        let partition = self.partition.clone();
        let (earliest, latest) = self.blocking(move |engine| edges(engine, &partition)).await?;
        Ok(Bounds { earliest, latest, end, events: Some(state.events), bytes: Some(state.bytes) })
    }

    async fn find(&self, time: Timestamp) -> Result<Position> {
        let partition = self.partition.clone();
        self.blocking(move |engine| find(engine, &partition, time)).await
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed> {
        self.queue.ask(|reply| Command::Trim(self.partition.clone(), trim, reply)).await?
    }
}

impl Log {
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Engine) -> Result<T> + Send + 'static) -> Result<T> {
        let engine = self.store.engine()?;
        let done = tokio::task::spawn_blocking(move || work(&engine)).await;
        done.map_err(|error| Error::new(Code::Internal, format!("a read of the embedded log was broken off: {error}")))?
    }
}

struct Reader {
    partition: Arc<Partition>,
    store: Arc<Store>,
    limits: ReadLimits,
}

impl Reader {
    async fn next(&self, after: u64, until: u64) -> Result<Look> {
        if let Some(mut gap) = self.partition.gap_after(after, || None) {
            gap.earliest = self.with_engine(|partition, engine| Ok(edges(engine, partition)?.0)).await?;
            let resume = gap.resume.major();
            return Ok(Look::Item(ReadItem::Gap(gap), resume));
        }
        if let Some(records) = self.partition.recent_after(after, until, self.limits) {
            let last = records.last().map_or(after, |record| record.position.major());
            return Ok(Look::Item(ReadItem::Batch(records), last));
        }
        let limits = self.limits;
        let look = self.with_engine(move |partition, engine| partition.look(engine, after, until, limits)).await?;
        // What was trimmed away meanwhile is a gap and not nothing.
        if matches!(look, Look::Nothing(_)) && self.partition.state().low > after {
            return Ok(Look::Nothing(after));
        }
        Ok(look)
    }

    async fn with_engine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Partition, &Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = loop {
            match self.store.engine() {
                Ok(engine) => break engine,
                Err(_) => tokio::time::sleep(ENGINE_WAIT).await,
            }
        };
        let partition = self.partition.clone();
        let done = tokio::task::spawn_blocking(move || work(&partition, &engine)).await;
        done.map_err(|error| Error::new(Code::Internal, format!("a read of the embedded log was broken off: {error}")))?
    }
}

/// The earliest and the latest event that are still there.
fn edges(engine: &Engine, partition: &Partition) -> Result<(Option<Position>, Option<Position>)> {
    let low = partition.state().low;
    let first = batch_at(engine, &partition.key, low + 1)?.unwrap_or(0);
    let mut earliest = None;
    for guard in engine.log.range(batch_key(&partition.key, first)..=batch_key(&partition.key, u64::MAX)) {
        let (key, value) = guard.into_inner().map_err(failed)?;
        let (base, header) = (offset_of(&key), BatchHeader::decode(&value));
        if base + u64::from(header.events) - 1 > low {
            earliest = Some(Position::offset(base.max(low + 1)));
            break;
        }
    }
    let mut all = engine.log.range(batch_key(&partition.key, 0)..=batch_key(&partition.key, u64::MAX));
    let latest = match all.next_back() {
        Some(guard) => {
            let (key, value) = guard.into_inner().map_err(failed)?;
            Some(offset_of(&key) + u64::from(BatchHeader::decode(&value).events) - 1)
        }
        None => None,
    };
    Ok((earliest, latest.filter(|&latest| latest > low).map(Position::offset)))
}

/// Halves the offsets until the first batch is found that was stored at `time` or later.
fn find(engine: &Engine, partition: &Partition, time: Timestamp) -> Result<Position> {
    let state = partition.state();
    // Everything at or below `before` is earlier than `time`; what starts above `behind` is not.
    let (mut before, mut behind) = (state.low, state.last);
    while before < behind {
        let middle = before + (behind - before).div_ceil(2);
        let Some(base) = batch_at(engine, &partition.key, middle)?.filter(|&base| base > before || base + 1 > before)
        else {
            behind = middle - 1;
            continue;
        };
        let Some(value) = engine.log.get(batch_key(&partition.key, base)).map_err(failed)? else {
            behind = middle - 1;
            continue;
        };
        let header = BatchHeader::decode(&value);
        let last = base + u64::from(header.events) - 1;
        if header.stored_nanos < time.as_nanos() {
            before = last.max(middle);
        } else {
            behind = behind.min(base.saturating_sub(1)).max(before);
        }
    }
    Ok(if before == 0 { Position::START } else { Position::offset(before.min(state.last)) })
}
