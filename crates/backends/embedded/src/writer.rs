//! The one thread that writes: it gathers what arrives while a write is under way into the next one.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use fjall::PersistMode;
use parking_lot::Mutex;
use synapse_hub_core::{
    Code, Error, Event, Result, TopicName,
    backend::{Append, Appended, Trim, Trimmed},
    batch,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    catalog,
    group::Group,
    jobs::{Job, PurgeJob, TrimJob},
    keys::{BATCH_HEADER_BYTES, PartitionState},
    log::stopping,
    partition::{Partition, Partitions},
    producers::{self, Producers},
    store::{Engine, Store},
};

/// How often the free space of the disk is looked at.
const SPACE_INTERVAL: Duration = Duration::from_millis(20);
/// How often opening a failed engine again is tried.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);
/// How often producers that stopped publishing are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);

pub(crate) enum Command {
    Append(Box<Request>),
    Trim(Arc<Partition>, Trim, oneshot::Sender<Result<Trimmed>>),
    Create(TopicName, oneshot::Sender<Result<()>>),
    Delete(TopicName, oneshot::Sender<Result<()>>),
    Stop(oneshot::Sender<()>),
}

pub(crate) struct Request {
    pub(crate) partition: Arc<Partition>,
    pub(crate) append: Append,
    /// The value to be stored, with room for its header.
    pub(crate) value: Vec<u8>,
    pub(crate) reply: oneshot::Sender<Result<Appended>>,
    /// Room in the queue, given back when the request is done.
    pub(crate) room: OwnedSemaphorePermit,
}

/// The value of a batch, with room for its header.
pub(crate) fn encode_value(events: &[Event], zstd_level: Option<i32>) -> Vec<u8> {
    let stored = batch::encode_stored(&batch::encode(events), zstd_level);
    let mut value = Vec::with_capacity(BATCH_HEADER_BYTES + stored.len());
    value.resize(BATCH_HEADER_BYTES, 0);
    value.extend_from_slice(&stored);
    value
}

pub(crate) struct Writer {
    store: Arc<Store>,
    partitions: Arc<Mutex<Partitions>>,
    producers: Producers,
    jobs: VecDeque<Job>,
    /// The batches that are held in memory for readers, the oldest first, and their size.
    recent: VecDeque<(Arc<Partition>, u64, usize)>,
    recent_bytes: usize,
    /// When the disk had room last.
    room_seen: Option<Instant>,
    /// A write failed, and nothing can be written before the engine was opened again: tried last at this time.
    failed: Option<Instant>,
    forgotten: Option<Instant>,
}

impl Writer {
    pub(crate) fn new(store: Arc<Store>, partitions: Arc<Mutex<Partitions>>, deleted_topics: Vec<u64>) -> Self {
        Self {
            store,
            partitions,
            producers: Producers::default(),
            jobs: deleted_topics.into_iter().map(|topic| Job::Purge(PurgeJob::new(topic))).collect(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            room_seen: None,
            failed: None,
            forgotten: None,
        }
    }

    /// Runs until it is told to stop, or nobody can tell it anything any more.
    pub(crate) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            let first = match self.next(commands) {
                Ok(first) => first,
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if let Some(first) = first
                && let Some(reply) = self.take(first, commands)
            {
                self.stop();
                // Nobody may be waiting any more.
                let _ = reply.send(());
                return;
            }
            self.step();
        }
    }

    /// Waits for the next command, unless there is something else to do.
    fn next(&self, commands: &mpsc::Receiver<Command>) -> Result<Option<Command>, mpsc::RecvTimeoutError> {
        if self.failed.is_some() {
            return commands.recv_timeout(REOPEN_INTERVAL).map(Some);
        }
        if self.jobs.is_empty() {
            return commands.recv_timeout(FORGET_INTERVAL).map(Some);
        }
        match commands.try_recv() {
            Ok(command) => Ok(Some(command)),
            Err(mpsc::TryRecvError::Empty) => Ok(None),
            Err(mpsc::TryRecvError::Disconnected) => Err(mpsc::RecvTimeoutError::Disconnected),
        }
    }

    /// Takes a command and the appends that have gathered behind it. Returns whom to tell when it is to stop.
    fn take(&mut self, first: Command, commands: &mpsc::Receiver<Command>) -> Option<oneshot::Sender<()>> {
        let (mut appends, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        let mut stop = None;
        while let Some(command) = next.take() {
            match command {
                Command::Append(request) => {
                    bytes += request.value.len();
                    appends.push(*request);
                    if bytes < self.store.options.write_bytes_max {
                        next = commands.try_recv().ok();
                    }
                }
                Command::Trim(partition, trim, reply) => {
                    // It is about what was appended before.
                    self.append_all(std::mem::take(&mut appends));
                    self.jobs.push_back(Job::Trim(TrimJob::new(partition, trim), reply));
                }
                Command::Create(name, reply) => {
                    self.append_all(std::mem::take(&mut appends));
                    let created = self.engine().and_then(|engine| catalog::create(&engine, &name));
                    self.note_failure(&created);
                    let _ = reply.send(created);
                }
                Command::Delete(name, reply) => {
                    self.append_all(std::mem::take(&mut appends));
                    let deleted = self.delete(&name);
                    self.note_failure(&deleted);
                    let _ = reply.send(deleted);
                }
                Command::Stop(reply) => stop = Some(reply),
            }
        }
        self.append_all(appends);
        stop
    }

    /// Deletes a topic. The name gets another id when it comes again, so that late writes to the old one are nobody's.
    fn delete(&mut self, name: &TopicName) -> Result<()> {
        let engine = self.engine()?;
        let topic = catalog::remove(&engine, name)?;
        // Whoever opened it before it was removed is told now, and whoever opens it from now on finds it gone.
        self.partitions.lock().delete(name);
        if let Some(topic) = topic {
            self.producers.forget_topic(topic);
            self.jobs.push_back(Job::Purge(PurgeJob::new(topic)));
        }
        Ok(())
    }

    /// Does a little of what is to be done besides.
    fn step(&mut self) {
        if self.failed.is_some() {
            // Readers wait for it, even when nobody writes.
            let _ = self.engine();
        }
        if self.forgotten.is_none_or(|forgotten| forgotten.elapsed() >= FORGET_INTERVAL) {
            self.forgotten = Some(Instant::now());
            if let Err(error) = self.store.engine().and_then(|engine| producers::forget_idle(&engine)) {
                tracing::warn!(%error, "producers that stopped publishing could not be forgotten");
            }
        }
        let Some(job) = self.jobs.pop_front() else { return };
        let engine = self.engine();
        match job {
            Job::Trim(mut trim, reply) => {
                let step = engine.and_then(|engine| trim.step(&engine, self.store.options.recent_bytes));
                self.note_failure(&step);
                match step {
                    Ok(None) => self.jobs.push_back(Job::Trim(trim, reply)),
                    Ok(Some(trimmed)) => drop(reply.send(Ok(trimmed))),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Job::Purge(mut purge) => {
                let step = engine.and_then(|engine| purge.step(&engine));
                self.note_failure(&step);
                match step {
                    Ok(false) => self.jobs.push_back(Job::Purge(purge)),
                    Ok(true) => {}
                    // It goes on at the next start.
                    Err(error) => tracing::warn!(%error, "the data of a deleted topic could not be removed"),
                }
            }
        }
    }

    fn append_all(&mut self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(requests.len());
        let written = self.write(requests, &mut answers);
        self.note_failure(&written);
        for (reply, answer, room) in answers {
            let answer = match &written {
                Ok(()) => answer,
                Err(error) => answer.and(Err(error.clone())),
            };
            // A publisher that is gone needs no answer.
            let _ = reply.send(answer);
            drop(room);
        }
    }

    #[allow(clippy::type_complexity)] // The parts of a request, taken apart.
    fn write(
        &mut self,
        requests: Vec<Request>,
        answers: &mut Vec<(oneshot::Sender<Result<Appended>>, Result<Appended>, OwnedSemaphorePermit)>,
    ) -> Result<()> {
        let engine = self.check_room().and_then(|()| self.engine());
        let engine = match engine {
            Ok(engine) => engine,
            Err(error) => {
                answers.extend(requests.into_iter().map(|request| (request.reply, Err(error.clone()), request.room)));
                return Ok(());
            }
        };
        let mut group = Group::new(&engine, &mut self.producers, self.store.options.zstd_level);
        let mut broken = None;
        for Request { partition, append, value, reply, room } in requests {
            let answer = match &broken {
                None => group.add(&partition, append, value),
                Some(error) => Err(Error::clone(error)),
            };
            if let Err(error) = &answer
                && !matches!(error.code(), Code::TopicNotFound | Code::ProducerSequenceTooOld | Code::InvalidEvent)
            {
                broken = Some(error.clone());
            }
            answers.push((reply, answer, room));
        }
        if let Some(error) = broken {
            return Err(error);
        }
        let written = group.write()?;
        for partition in written.new_partitions() {
            self.partitions.lock().keep(partition.clone());
        }
        self.hold_recent(written.publish(self.store.options.recent_bytes));
        Ok(())
    }

    /// Lets the oldest batches go when too much is held in memory.
    fn hold_recent(&mut self, batches: Vec<(Arc<Partition>, u64, usize)>) {
        for batch in batches {
            self.recent_bytes += batch.2;
            self.recent.push_back(batch);
        }
        while self.recent_bytes > self.store.options.recent_bytes_total
            && let Some((partition, base, bytes)) = self.recent.pop_front()
        {
            partition.forget_recent(base);
            self.recent_bytes -= bytes;
        }
    }

    /// Refuses writes while the disk has too little room, so that the engine never fails in the middle of one.
    fn check_room(&mut self) -> Result<()> {
        if self.room_seen.is_none_or(|seen| seen.elapsed() >= SPACE_INTERVAL) {
            if !self.store.has_room() {
                self.room_seen = None;
                return Err(self.store.full());
            }
            self.room_seen = Some(Instant::now());
        }
        Ok(())
    }

    /// The engine, opened again if it has failed.
    fn engine(&mut self) -> Result<Arc<Engine>> {
        let Some(tried) = self.failed else { return self.store.engine() };
        if tried.elapsed() < REOPEN_INTERVAL {
            return Err(self.store.full());
        }
        self.failed = Some(Instant::now());
        self.store.reopen()?;
        let engine = self.store.engine()?;
        let partitions = self.partitions.lock().all();
        for partition in partitions {
            partition.reload(&engine)?;
            if partition.key().is_some() {
                self.partitions.lock().keep(partition);
            }
        }
        self.failed = None;
        tracing::warn!("the embedded log is open again");
        Ok(engine)
    }

    /// After a failed write nothing in memory is certain: what is on the disk holds.
    fn note_failure<T>(&mut self, outcome: &Result<T>) {
        let Err(error) = outcome else { return };
        self.producers.clear();
        if self.failed.is_none() && self.store.engine().is_ok_and(|engine| engine.has_failed()) {
            tracing::error!(%error, "a write to the embedded log failed; it is opened again");
            self.failed = Some(Instant::now());
        }
    }

    /// Notes that offsets need not be skipped at the next start, puts everything on the disk, and closes the engine.
    fn stop(&mut self) {
        for job in self.jobs.drain(..) {
            if let Job::Trim(_, reply) = job {
                let _ = reply.send(Err(stopping()));
            }
        }
        let partitions = self.partitions.lock().known();
        let closed = self.store.engine().and_then(|engine| {
            let mut batch = engine.database.batch();
            for partition in partitions {
                let state = partition.state();
                if let Some(key) = partition.key().filter(|_| state.last > 0) {
                    let state = PartitionState { clean: true, ..state };
                    batch.insert(&engine.state, key.as_slice(), state.encode());
                }
            }
            engine.commit(batch, Some(PersistMode::SyncAll))
        });
        if let Err(error) = closed {
            tracing::error!(%error, "the embedded log could not be closed in an orderly way");
        }
        self.recent.clear();
        self.store.close();
    }
}
