//! One partition as the hub sees it.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, stream::BoxStream};
use synapse_hub_core::{
    Code, Error, Position, Result, Timestamp,
    backend::{Append, Bounds, Commit, EventLog, Gap, GapReason, ReadItem, ReadLimits, Trim, Trimmed},
    batch,
};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    keys::PartitionState,
    look::{self, Look},
    partition::Partition,
    store::{Engine, Store},
    writer::{Command, Request, encode_value},
};

/// How long a reader waits before it tries again what failed.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A way to the writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) stop: watch::Sender<bool>,
}

impl Queue {
    /// Gives the writer something to do, and waits for its answer.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

pub(crate) struct Log {
    pub(crate) partition: Arc<Partition>,
    pub(crate) store: Arc<Store>,
    pub(crate) queue: Queue,
}

pub(crate) fn stopping() -> Error {
    Error::new(Code::ShuttingDown, "the embedded log is closed")
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
        let request = Request { partition: self.partition.clone(), append, value, reply, room };
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
        let (mut end, mut stop) = (self.partition.end.subscribe(), self.queue.stop.subscribe());
        async_stream::stream! {
            let mut retry = RETRY_MIN;
            let mut after = after;
            // Between two offsets is no event, whatever else a position may say.
            while until.is_none_or(|until| after.major() < until.major()) {
                if *stop.borrow_and_update() {
                    yield Err(stopping());
                    return;
                }
                let seen = *end.borrow_and_update();
                if reader.partition.is_deleted() {
                    yield Err(Error::new(Code::TopicNotFound, "the topic was deleted"));
                    return;
                }
                let upper = until.map_or(seen, |until| until.major().min(seen));
                if after.major() >= upper {
                    tokio::select! {
                        _ = end.changed() => {}
                        _ = stop.changed() => {}
                    }
                    continue;
                }
                match reader.next(after, upper).await {
                    Ok(look) => {
                        retry = RETRY_MIN;
                        match look {
                            Look::Item(item, last) => {
                                after = Position::offset(last);
                                yield Ok(item);
                            }
                            Look::Nothing(last) => after = after.max(Position::offset(last)),
                        }
                    }
                    Err(error) if error.retryable() => {
                        tracing::debug!(partition = %reader.partition.id, %error, "reading waits");
                        tokio::time::sleep(retry).await;
                        retry = (retry * 2).min(RETRY_MAX);
                    }
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                }
            }
        }
        .boxed()
    }

    async fn bounds(&self) -> Result<Bounds> {
        let state = self.partition.state();
        let bounds = Bounds {
            end: Position::offset(state.last),
            events: Some(state.events),
            bytes: Some(state.bytes),
            ..Bounds::default()
        };
        if state.events == 0 {
            return Ok(bounds);
        }
        let [earliest, latest] = self.with_engine(move |engine, key| look::edges(engine, &key, state)).await?;
        Ok(Bounds { earliest, latest, ..bounds })
    }

    async fn find(&self, time: Timestamp) -> Result<Position> {
        let state = self.partition.state();
        if state.last == 0 {
            return Ok(Position::START);
        }
        self.with_engine(move |engine, key| look::find(engine, &key, state, time)).await
    }

    async fn trim(&self, trim: Trim) -> Result<Trimmed> {
        self.queue.ask(|reply| Command::Trim(self.partition.clone(), trim, reply)).await
    }
}

impl Log {
    /// Works with the engine on what is stored, for which it waits while it is opened again.
    async fn with_engine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, crate::keys::PartitionKey) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let key = self.partition.stored_key()?;
        let mut waited = Duration::ZERO;
        let engine = loop {
            match self.store.engine() {
                Err(error) if error.retryable() && waited < RETRY_MAX && !*self.queue.stop.borrow() => {
                    tokio::time::sleep(RETRY_MIN).await;
                    waited += RETRY_MIN;
                }
                engine => break engine?,
            }
        };
        blocking(move || work(&engine, key)).await
    }
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(Code::Internal, format!("work on the embedded log was broken off: {error}")))?
}

struct Reader {
    partition: Arc<Partition>,
    store: Arc<Store>,
    limits: ReadLimits,
}

impl Reader {
    async fn next(&self, after: Position, until: u64) -> Result<Look> {
        let offset = after.major();
        let state = self.partition.state();
        if offset < state.low {
            return self.gap(after, state).await;
        }
        if let Some(records) = self.partition.recent_after(offset, until, self.limits) {
            let last = records.last().map_or(offset, |record| record.position.major());
            return Ok(Look::Item(ReadItem::Batch(records), last));
        }
        let (partition, limits, engine) = (self.partition.clone(), self.limits, self.store.engine()?);
        let key = partition.stored_key()?;
        let look = blocking(move || look::look(&partition, &engine, &key, offset, until, limits)).await?;
        // What was trimmed away meanwhile is a gap, and not simply absent.
        let continues = match &look {
            Look::Item(ReadItem::Batch(records), _) => {
                records.first().is_some_and(|record| record.position.major() == offset + 1)
            }
            _ => false,
        };
        if !continues && self.partition.state().low > offset {
            return Ok(Look::Nothing(offset));
        }
        Ok(look)
    }

    /// The gap from here to what is left.
    async fn gap(&self, after: Position, state: PartitionState) -> Result<Look> {
        let key = self.partition.stored_key()?;
        let earliest = match self.store.engine() {
            Ok(engine) => {
                blocking(move || look::edges(&engine, &key, state)).await.map_or(None, |[earliest, _]| earliest)
            }
            Err(_) => None,
        };
        let gap = Gap {
            after,
            resume: Position::offset(state.low),
            earliest,
            lost: state.distance(after.major(), state.low),
            reason: GapReason::Trimmed,
        };
        Ok(Look::Item(ReadItem::Gap(gap), state.low))
    }
}
