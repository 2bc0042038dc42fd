//! A publisher that pipelines: batches up, acknowledgements down, several under way.
//!
//! Events go at once when nothing is under way, and gather into batches while something is. After a lost connection the
//! batches that were not acknowledged are sent again, in order and with their numbers, so that the hub stores each once.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use prost::Message as _;
use synapse_hub_proto::v1::{self, PublishRequest, PublishResponse, publish_request::Payload};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{Client, Error, Result, retry::Backoff};

/// How many failed events a report names; the rest are counted.
const FAILURES_NAMED: usize = 1000;

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// The most events in one batch.
    pub batch_events_max: usize,
    /// The most bytes in one batch, about.
    pub batch_bytes_max: usize,
    /// The most batches under way; at most 64, which is what the hub remembers of a producer.
    pub inflight_batches_max: usize,
    /// How many events wait to be sent before `send` waits.
    pub buffer_events: usize,
    /// What acknowledgements must promise; unspecified means what the topic says.
    pub durability: v1::Durability,
    /// For how long a batch is tried.
    pub timeout: Duration,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            batch_events_max: 500,
            batch_bytes_max: 1 << 20,
            inflight_batches_max: 16,
            buffer_events: 4096,
            durability: v1::Durability::Unspecified,
            timeout: Duration::from_secs(60),
        }
    }
}

/// An event that was not stored.
#[derive(Debug, Clone)]
pub struct FailedEvent {
    /// Its number among the events of this publisher, from 0.
    pub index: u64,
    /// Its id, if it was given one.
    pub id: String,
    /// Why.
    pub error: Error,
}

/// What became of all events of a publisher.
#[derive(Debug, Clone, Default)]
pub struct PublisherReport {
    /// How many events are stored.
    pub stored: u64,
    /// How many of those the hub had stored before, when a batch was sent again.
    pub duplicates: u64,
    /// How many were not stored.
    pub failed: u64,
    /// The first of those that were not stored.
    pub failures: Vec<FailedEvent>,
    /// The position of the last event, of those in order.
    pub last_position: String,
}

/// A publisher. Finish it to learn what became of the events; dropping it sends what is buffered and tells nobody.
pub struct Publisher {
    events: mpsc::Sender<v1::Event>,
    flushes: mpsc::Sender<oneshot::Sender<()>>,
    driver: JoinHandle<PublisherReport>,
}

impl Publisher {
    /// Hands an event over. Waits only while the buffer is full.
    ///
    /// # Errors
    /// When the publisher has stopped.
    pub async fn send(&self, event: v1::Event) -> Result<()> {
        self.events.send(event).await.map_err(|_| Error::new("internal", "the publisher has stopped"))
    }

    /// Waits until everything handed over so far is stored or has failed.
    ///
    /// # Errors
    /// When the publisher has stopped.
    pub async fn flush(&self) -> Result<()> {
        let (done, flushed) = oneshot::channel();
        let stopped = |_| Error::new("internal", "the publisher has stopped");
        self.flushes.send(done).await.map_err(|_| Error::new("internal", "the publisher has stopped"))?;
        flushed.await.map_err(stopped)
    }

    /// Sends what is buffered, waits for all acknowledgements, and reports.
    ///
    /// # Errors
    /// When the publisher has died.
    pub async fn finish(self) -> Result<PublisherReport> {
        drop(self.events);
        drop(self.flushes);
        self.driver.await.map_err(|error| Error::new("internal", error.to_string()))
    }
}

pub(crate) fn start(client: Client, topic: String, options: PublisherOptions) -> Publisher {
    let (events, received) = mpsc::channel(options.buffer_events.max(1));
    let (flushes, asked) = mpsc::channel(64);
    let driver = Driver {
        client,
        topic,
        producer: uuid::Uuid::new_v4().simple().to_string(),
        options,
        sequence: 0,
        sent: 0,
        pending: Vec::new(),
        pending_bytes: 0,
        inflight: VecDeque::new(),
        report: PublisherReport::default(),
        flushing: Vec::new(),
    };
    Publisher { events, flushes, driver: tokio::spawn(driver.run(received, asked)) }
}

struct Driver {
    client: Client,
    topic: String,
    producer: String,
    options: PublisherOptions,
    sequence: u64,
    /// How many events were put into batches.
    sent: u64,
    pending: Vec<v1::Event>,
    pending_bytes: usize,
    inflight: VecDeque<InFlight>,
    report: PublisherReport,
    flushing: Vec<oneshot::Sender<()>>,
}

/// A batch that is not acknowledged.
struct InFlight {
    sequence: u64,
    batch: Bytes,
    first_index: u64,
    ids: Vec<String>,
    since: Instant,
}

struct Connection {
    requests: mpsc::Sender<PublishRequest>,
    responses: Streaming<PublishResponse>,
}

impl Driver {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<v1::Event>,
        mut flushes: mpsc::Receiver<oneshot::Sender<()>>,
    ) -> PublisherReport {
        let (mut open, mut backoff) = (true, Backoff::default());
        let mut connection: Option<Connection> = None;
        loop {
            self.answer_flushes(&events);
            if !open && self.pending.is_empty() && self.inflight.is_empty() {
                return self.report;
            }
            if self.ready(open) {
                self.seal();
                if let Some(open) = &connection
                    && open.requests.send(self.request(self.inflight.len() - 1)).await.is_err()
                {
                    connection = None;
                }
            }
            if connection.is_none() && !self.inflight.is_empty() {
                match self.connect().await {
                    Ok(made) => connection = Some(made),
                    Err(error) => {
                        self.give_up_late(&error);
                        tokio::time::sleep(backoff.next(error.retry_after)).await;
                        continue;
                    }
                }
            }
            if self.ready(open) {
                continue;
            }
            let room = self.options.batch_events_max.saturating_sub(self.pending.len());
            let mut gathered = Vec::new();
            tokio::select! {
                biased;
                response = next(&mut connection) => match response {
                    Ok(response) => match self.settle(response) {
                        None => backoff.reset(),
                        Some(error) => {
                            // The hub stays; the batch is to be tried again, and those behind it keep their order.
                            self.give_up_late(&error);
                            connection = None;
                            tokio::time::sleep(backoff.next(error.retry_after)).await;
                        }
                    },
                    Err(error) => {
                        connection = None;
                        if error.retryable {
                            self.give_up_late(&error);
                            tokio::time::sleep(backoff.next(error.retry_after)).await;
                        } else {
                            self.fail_all(&error);
                        }
                    }
                },
                count = events.recv_many(&mut gathered, room), if open && room > 0 => {
                    open = count > 0;
                    self.pending_bytes += gathered.iter().map(|event| event.data.len() + 128).sum::<usize>();
                    self.pending.append(&mut gathered);
                }
                Some(done) = flushes.recv(), if open => self.flushing.push(done),
            }
        }
    }

    /// Whether the pending events are to go now.
    fn ready(&self, open: bool) -> bool {
        let full =
            self.pending.len() >= self.options.batch_events_max || self.pending_bytes >= self.options.batch_bytes_max;
        !self.pending.is_empty()
            && self.inflight.len() < self.options.inflight_batches_max.clamp(1, 64)
            && (full || self.inflight.is_empty() || !open || !self.flushing.is_empty())
    }

    fn seal(&mut self) {
        let events = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.sequence += 1;
        let (first_index, count) = (self.sent, events.len() as u64);
        let ids = events.iter().map(|event| event.id.clone()).collect();
        let batch = v1::EventBatch { events }.encode_to_vec().into();
        self.sent += count;
        self.inflight.push_back(InFlight { sequence: self.sequence, batch, first_index, ids, since: Instant::now() });
    }

    fn request(&self, at: usize) -> PublishRequest {
        let batch = &self.inflight[at];
        PublishRequest {
            topic: self.topic.clone(),
            payload: Some(Payload::Batch(batch.batch.clone())),
            durability: self.options.durability.into(),
            producer_id: self.producer.clone(),
            producer_sequence: batch.sequence,
            // What is acceptable is stored; what is not is reported at the end.
            partial: true,
            request_id: batch.sequence,
        }
    }

    /// Connects, and sends everything again that was not acknowledged.
    async fn connect(&mut self) -> Result<Connection> {
        let (requests, outgoing) = mpsc::channel(self.options.inflight_batches_max.clamp(1, 64));
        for at in 0..self.inflight.len() {
            // The channel has room for all of them.
            let _ = requests.try_send(self.request(at));
        }
        let responses = self.client.events().publish_stream(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Connection { requests, responses })
    }

    /// Takes an acknowledgement; returns the error of a batch that is to be sent again.
    fn settle(&mut self, response: PublishResponse) -> Option<Error> {
        let batch = self.inflight.front().filter(|batch| batch.sequence == response.request_id)?;
        if let Some(problem) = response.error {
            let error = Error::from(problem);
            if error.retryable {
                return Some(error);
            }
            self.fail_front(&error);
            return None;
        }
        let count = batch.ids.len() as u64;
        let refused = response.refused.len() as u64;
        let (first_index, ids) = (batch.first_index, batch.ids.clone());
        self.inflight.pop_front();
        self.report.stored += count - refused.min(count);
        if response.duplicate {
            self.report.duplicates += count - refused.min(count);
        }
        if let Some(last) = response.positions.into_iter().rev().find(|position| !position.is_empty()) {
            self.report.last_position = last;
        }
        for refusal in response.refused {
            let index = u64::from(refusal.index);
            let id = ids.get(refusal.index as usize).cloned().unwrap_or_default();
            self.fail(first_index + index, id, Error::refused(vec![refusal]));
        }
        None
    }

    fn fail(&mut self, index: u64, id: String, error: Error) {
        self.report.failed += 1;
        if self.report.failures.len() < FAILURES_NAMED {
            self.report.failures.push(FailedEvent { index, id, error });
        }
    }

    fn fail_front(&mut self, error: &Error) {
        if let Some(batch) = self.inflight.pop_front() {
            for (at, id) in batch.ids.into_iter().enumerate() {
                self.fail(batch.first_index + at as u64, id, error.clone());
            }
        }
    }

    fn fail_all(&mut self, error: &Error) {
        while !self.inflight.is_empty() {
            self.fail_front(error);
        }
    }

    /// Batches that were tried for too long have failed.
    fn give_up_late(&mut self, error: &Error) {
        while self.inflight.front().is_some_and(|batch| batch.since.elapsed() > self.options.timeout) {
            self.fail_front(error);
        }
    }

    fn answer_flushes(&mut self, events: &mpsc::Receiver<v1::Event>) {
        if self.pending.is_empty() && self.inflight.is_empty() && events.is_empty() {
            for done in self.flushing.drain(..) {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
    }
}

async fn next(connection: &mut Option<Connection>) -> Result<PublishResponse> {
    let Some(connection) = connection else { return std::future::pending().await };
    match connection.responses.next().await {
        Some(Ok(response)) => Ok(response),
        Some(Err(status)) => Err(status.into()),
        None => Err(Error::unreachable("the hub closed the stream")),
    }
}
