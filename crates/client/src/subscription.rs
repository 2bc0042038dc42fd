//! A subscription that resumes by itself.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use synapse_hub_proto::v1::{self, SubscribeRequest, ended::Reason, subscribe_response};
use tonic::Streaming;

use crate::{Client, Error, Result, retry::Backoff};

/// What to subscribe to.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// Topic names or patterns.
    pub topics: Vec<String>,
    /// Event patterns as JSON; any of them must match.
    pub filters: Vec<String>,
    /// Where to start: `latest` (also when empty), `earliest`, a time, a duration ago, a position, a cursor.
    pub replay_from: String,
    /// Where to end; empty means never.
    pub until: String,
    /// Events, or flat JSON objects.
    pub format: v1::Format,
    /// The most events in one batch; 0 means the hub's limit.
    pub batch_events_max: u32,
    /// Do not resume after a lost connection, but fail.
    pub once: bool,
}

impl SubscribeOptions {
    /// All events of these topics, from now on.
    pub fn new(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { topics: topics.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// Events of one partition, in order.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Their topic.
    pub topic: String,
    /// Their partition.
    pub partition: u32,
    /// The events; empty in the flat format.
    pub events: Vec<v1::Event>,
    /// The flat JSON objects; empty unless asked for.
    pub flat: Vec<Bytes>,
    /// Where each stands.
    pub positions: Vec<String>,
    cursor_rest: String,
}

impl Batch {
    /// The cursor after the event at this index.
    pub fn cursor(&self, index: usize) -> String {
        let position = self.positions.get(index).map_or("", String::as_str);
        let comma = if self.cursor_rest.is_empty() { "" } else { "," };
        format!("{}/{}@{position}{comma}{}", self.topic, self.partition, self.cursor_rest)
    }

    /// How many events.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
}

/// One event with its place.
#[derive(Debug, Clone)]
pub struct Received {
    /// The event.
    pub event: v1::Event,
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Where it stands.
    pub position: String,
    /// What to resume from after it.
    pub cursor: String,
}

/// Events are missing here.
pub type Gap = v1::Gap;

/// Why a subscription ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// `until` was reached.
    Until,
    /// A topic of the subscription was deleted.
    TopicDeleted,
    /// The hub stops, and the subscription does not resume.
    Shutdown,
}

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Item {
    /// Events.
    Batch(Batch),
    /// Events are missing here.
    Gap(Gap),
    /// Nothing matched for a while; the cursor moved on.
    Heartbeat,
    /// Nothing follows.
    Ended(EndReason),
}

/// An open subscription.
pub struct Subscription {
    client: Client,
    options: SubscribeOptions,
    stream: Option<Streaming<v1::SubscribeResponse>>,
    cursor: String,
    backoff: Backoff,
    reconnects: u64,
    queue: VecDeque<Received>,
    ended: bool,
}

pub(crate) async fn open(client: Client, options: SubscribeOptions) -> Result<Subscription> {
    let mut subscription = Subscription {
        client,
        options,
        stream: None,
        cursor: String::new(),
        backoff: Backoff::default(),
        reconnects: 0,
        queue: VecDeque::new(),
        ended: false,
    };
    subscription.connect().await?;
    Ok(subscription)
}

impl Subscription {
    /// What to resume from after everything that was yielded.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// How often the connection was made again.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// The next event, without telling of gaps; `None` at the end.
    ///
    /// # Errors
    /// What cannot be healed by connecting again.
    pub async fn next_event(&mut self) -> Result<Option<Received>> {
        loop {
            if let Some(received) = self.queue.pop_front() {
                return Ok(Some(received));
            }
            match self.next().await? {
                None | Some(Item::Ended(_)) => return Ok(None),
                Some(Item::Batch(mut batch)) => {
                    let events = std::mem::take(&mut batch.events);
                    let received = events.into_iter().enumerate().map(|(index, event)| Received {
                        event,
                        topic: batch.topic.clone(),
                        partition: batch.partition,
                        position: batch.positions.get(index).cloned().unwrap_or_default(),
                        cursor: batch.cursor(index),
                    });
                    self.queue.extend(received);
                }
                Some(Item::Gap(_) | Item::Heartbeat) => {}
            }
        }
    }

    /// The next item; `None` after [`Item::Ended`].
    ///
    /// # Errors
    /// What cannot be healed by connecting again.
    pub async fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let Some(stream) = &mut self.stream else {
                self.resume().await?;
                continue;
            };
            let response = match stream.message().await {
                Ok(Some(response)) => response,
                Ok(None) => {
                    self.lost(Error::unreachable("the hub closed the stream"))?;
                    continue;
                }
                Err(status) => {
                    self.lost(status.into())?;
                    continue;
                }
            };
            self.backoff.reset();
            if let Some(item) = self.take(response)? {
                return Ok(Some(item));
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        let request = SubscribeRequest {
            topics: self.options.topics.clone(),
            filters: self.options.filters.clone(),
            replay_from: if self.cursor.is_empty() { self.options.replay_from.clone() } else { self.cursor.clone() },
            until: self.options.until.clone(),
            format: self.options.format.into(),
            batch_events_max: self.options.batch_events_max,
            batch_bytes_max: 0,
            client_name: self.client.options.name.clone(),
        };
        self.stream = Some(self.client.events().subscribe(request).await?.into_inner());
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        self.reconnects += 1;
        tokio::time::sleep(self.backoff.next(None)).await;
        match self.connect().await {
            Ok(()) => Ok(()),
            Err(error) if error.retryable => Ok(()),
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }

    fn lost(&mut self, error: Error) -> Result<()> {
        self.stream = None;
        if error.retryable && !self.options.once {
            return Ok(());
        }
        self.ended = true;
        Err(error)
    }

    fn take(&mut self, response: v1::SubscribeResponse) -> Result<Option<Item>> {
        Ok(match response.item {
            Some(subscribe_response::Item::Delivery(delivery)) => {
                let batch = read(delivery)?;
                if let Some(last) = batch.len().checked_sub(1) {
                    self.cursor = batch.cursor(last);
                }
                Some(Item::Batch(batch))
            }
            Some(subscribe_response::Item::Started(started)) => {
                self.cursor = started.cursor;
                None
            }
            Some(subscribe_response::Item::Gap(gap)) => {
                self.cursor.clone_from(&gap.cursor);
                Some(Item::Gap(gap))
            }
            Some(subscribe_response::Item::Heartbeat(heartbeat)) => {
                self.cursor = heartbeat.cursor;
                Some(Item::Heartbeat)
            }
            Some(subscribe_response::Item::Ended(ended)) => {
                let reason = ended.reason();
                self.cursor = ended.cursor;
                self.stream = None;
                match reason {
                    Reason::Shutdown if !self.options.once => return Ok(None),
                    Reason::Shutdown => self.end(EndReason::Shutdown),
                    Reason::TopicDeleted => self.end(EndReason::TopicDeleted),
                    Reason::Until | Reason::Unspecified => self.end(EndReason::Until),
                }
            }
            None => None,
        })
    }

    fn end(&mut self, reason: EndReason) -> Option<Item> {
        self.ended = true;
        Some(Item::Ended(reason))
    }
}

fn read(delivery: v1::Delivery) -> Result<Batch> {
    let batch = v1::EventBatch::decode(delivery.batch)
        .map_err(|error| Error::new("internal", format!("the hub sent what is no batch: {error}")))?;
    Ok(Batch {
        topic: delivery.topic,
        partition: delivery.partition,
        events: batch.events,
        flat: delivery.flat,
        positions: delivery.positions,
        cursor_rest: delivery.cursor_rest,
    })
}
