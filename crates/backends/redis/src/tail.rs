//! The live tails of all partitions, over one connection that blocks.
//!
//! One `XREAD … BLOCK` names every stream that somebody follows. A stream's entries are handed to all its followers as the
//! bytes that came; they decode for themselves. A follower that does not keep up is let go: it reads the log for itself
//! and comes back. About once a second for a busy stream, and every few seconds for an idle one, a snapshot of what the
//! stream holds is asked for on the same connection, so that its place among the entries is known.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::OptionFuture;
use rustc_hash::FxHashMap;
use synapse_hub_core::{Code, Error, Result};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    entry::EntryId,
    errors,
    keys::Keys,
    link::{Answer, Link, Request, settle},
    resp::{self, Replies, View},
    snapshot::Snapshot,
};

/// How many batches may wait for a follower.
const ITEMS_MAX: usize = 4;
/// The most entries of a stream that are asked for at once, and at first.
const COUNT_MAX: usize = 1000;
const COUNT_FIRST: usize = 100;
/// About how many bytes are asked for at once, over all streams.
const REPLY_BYTES_WANTED: usize = 4 << 20;
/// The longest a read blocks.
const BLOCK_MAX: Duration = Duration::from_secs(5);
/// The longest a read blocks when Redis does not allow this user to end one early.
const BLOCK_SHORT: Duration = Duration::from_millis(100);
/// The pause after a refusal that a retry may heal.
const PAUSE: Duration = Duration::from_millis(200);
/// How many snapshots one script call takes.
const SNAPSHOTS_MAX: usize = 64;

/// What a follower gets, in the order in which it happened.
#[derive(Debug)]
pub(crate) enum TailItem {
    /// Entries of the stream: an array of them starts at this place.
    Entries(Arc<Replies>, usize),
    /// What the stream held between the entries before and after.
    Snapshot {
        snapshot: Snapshot,
        /// Whether everything that was there at some moment before the snapshot had been handed out before it.
        caught_up: bool,
    },
    /// The connection was lost. It will be made again.
    Lost(Error),
    /// The stream cannot be read. Nothing follows.
    Failed(Error),
}

/// The way to follow streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tail {
    commands: mpsc::UnboundedSender<Command>,
}

/// How often the streams are looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checks {
    pub(crate) active: Duration,
    pub(crate) idle: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) reply_bytes_max: usize,
}

enum Command {
    Follow { stream: String, keys: Option<Keys>, follower: Follower },
    Check(String),
}

struct Follower {
    after: EntryId,
    items: mpsc::Sender<TailItem>,
}

impl Tail {
    /// A way to follow streams over the blocking link, and the task that does it. The other link ends blocked reads.
    pub(crate) fn new(blocking: Link, control: Link, checks: Checks) -> (Self, impl Future<Output = ()> + Send) {
        let (commands, received) = mpsc::unbounded_channel();
        let reader = Reader {
            blocking,
            control,
            checks,
            commands: received,
            streams: FxHashMap::default(),
            later: Vec::new(),
            count: COUNT_FIRST,
            block_max: BLOCK_MAX,
        };
        (Self { commands }, reader.run())
    }

    /// Everything in the stream after this entry, as it arrives. `keys` are those of a topic's partition, whose state is
    /// then looked at. The channel closes when the follower does not keep up, or the hub stops.
    pub(crate) fn follow(&self, stream: &str, keys: Option<Keys>, after: EntryId) -> mpsc::Receiver<TailItem> {
        let (items, received) = mpsc::channel(ITEMS_MAX);
        let follower = Follower { after, items };
        _ = self.commands.send(Command::Follow { stream: stream.to_owned(), keys, follower });
        received
    }

    /// Takes a snapshot of this stream now, if somebody follows it.
    pub(crate) fn check(&self, stream: &str) {
        _ = self.commands.send(Command::Check(stream.to_owned()));
    }
}

/// A stream that is followed.
struct Stream {
    keys: Option<Keys>,
    followers: Vec<Follower>,
    after: EntryId,
    /// When its next snapshot is due.
    due: Instant,
    active: bool,
    /// Whether the latest read gave all there was. One that was just begun or interrupted has to catch up first.
    caught_up: bool,
}

struct Reader {
    blocking: Link,
    control: Link,
    checks: Checks,
    commands: mpsc::UnboundedReceiver<Command>,
    streams: FxHashMap<String, Stream>,
    /// Commands that came while a read was under way. They are obeyed before the next: a follower that joined meanwhile
    /// must not get an answer to a question that was asked before.
    later: Vec<Command>,
    /// How many entries of a stream are asked for.
    count: usize,
    block_max: Duration,
}

impl Reader {
    async fn run(mut self) {
        if !allowed_to_unblock(&self.control, self.checks.response_timeout).await {
            self.block_max = BLOCK_SHORT;
        }
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.later.push(command);
            }
            for command in std::mem::take(&mut self.later) {
                self.apply(command);
            }
            self.forget_left();
            if self.streams.is_empty() {
                match self.commands.recv().await {
                    Some(command) => self.apply(command),
                    None => return,
                }
                continue;
            }
            match self.round().await {
                Ok(()) => {}
                Err(error) if error.code() == Code::ShuttingDown => return,
                Err(error) => self.recover(&error).await,
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Follow { stream, keys, follower } => {
                let due = Instant::now() + self.checks.active;
                let after = follower.after;
                let stream = self.streams.entry(stream).or_insert_with(|| Stream {
                    keys,
                    followers: Vec::new(),
                    after,
                    due,
                    active: true,
                    caught_up: false,
                });
                if after < stream.after {
                    (stream.after, stream.caught_up) = (after, false);
                }
                stream.followers.push(follower);
            }
            Command::Check(stream) => {
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.due = Instant::now();
                }
            }
        }
    }

    fn forget_left(&mut self) {
        self.streams.retain(|_, stream| {
            stream.followers.retain(|follower| !follower.items.is_closed());
            !stream.followers.is_empty()
        });
    }

    /// Asks once for what is new, and hands it out.
    async fn round(&mut self) -> Result<()> {
        let (snapshots, next_due) = self.ask_snapshots();
        let block = next_due.saturating_duration_since(Instant::now()).min(self.block_max);
        let names: Vec<String> = self.streams.keys().cloned().collect();
        let entries = self.ask_entries(&names, block);
        for (names, answer) in snapshots {
            self.deliver_snapshots(&names, &settle(answer).await?);
        }
        let replies = self.wait(entries).await?;
        self.deliver_entries(replies)
    }

    fn ask_snapshots(&mut self) -> (Vec<(Vec<String>, Answer)>, Instant) {
        let now = Instant::now();
        let mut due: Vec<String> = Vec::new();
        let mut next = now + self.checks.idle;
        for (name, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.keys.is_some()) {
            if stream.due <= now {
                due.push(name.clone());
                stream.due = now + if stream.active { self.checks.active } else { self.checks.idle };
                stream.active = false;
            }
            next = next.min(stream.due);
        }
        let asked = due.chunks(SNAPSHOTS_MAX).map(|names| {
            let keys: Vec<&Keys> = names.iter().filter_map(|name| self.streams[name].keys.as_ref()).collect();
            let mut out = Vec::new();
            Snapshot::ask(&mut out, keys.into_iter());
            let answer = self.blocking.send(Request::new(out, 1, self.checks.response_timeout));
            (names.to_vec(), answer)
        });
        (asked.collect(), next)
    }

    fn ask_entries(&self, names: &[String], block: Duration) -> Answer {
        let mut out = Vec::new();
        resp::array(&mut out, 6 + 2 * names.len());
        for argument in [&b"XREAD"[..], b"COUNT"] {
            resp::bulk(&mut out, argument);
        }
        resp::bulk_display(&mut out, self.count);
        resp::bulk(&mut out, b"BLOCK");
        resp::bulk_display(&mut out, block.as_millis().max(1));
        resp::bulk(&mut out, b"STREAMS");
        for name in names {
            resp::bulk(&mut out, name.as_bytes());
        }
        for name in names {
            resp::bulk_display(&mut out, self.streams[name].after);
        }
        let mut request = Request::new(out, 1, block + self.checks.response_timeout);
        // The one entry that is asked for last is taken whatever its size.
        request.reply_bytes_max = if self.count == 1 { u32::MAX as usize } else { self.checks.reply_bytes_max };
        self.blocking.send(request)
    }

    /// Waits for a blocked read. It is ended early when the set of streams changes.
    async fn wait(&mut self, answer: Answer) -> Result<Replies> {
        let answer = settle(answer);
        tokio::pin!(answer);
        let mut unblocking = OptionFuture::from(None);
        loop {
            tokio::select! {
                replies = &mut answer => return replies,
                command = self.commands.recv() => {
                    self.later.push(command.ok_or_else(errors::shutting_down)?);
                    if self.later.len() == 1 {
                        let (id, timeout) = (self.blocking.client_id(), self.checks.response_timeout);
                        unblocking = Some(Box::pin(unblock(self.control.clone(), id, timeout))).into();
                    }
                }
                Some(()) = &mut unblocking => unblocking = None.into(),
            }
        }
    }

    fn deliver_snapshots(&mut self, names: &[String], replies: &Replies) {
        let mut cursor = replies.cursor();
        if cursor.array().is_none() {
            if let Some(View::Error(text)) = cursor.next() {
                let error = errors::from_redis(text);
                tracing::debug!(%error, "cannot look at the streams that are followed");
            }
            return;
        }
        for name in names {
            let snapshot = Snapshot::read(&mut cursor);
            let Some(stream) = self.streams.get_mut(name) else { continue };
            match snapshot {
                Ok(snapshot) => {
                    let caught_up = stream.caught_up;
                    stream.hand_out(|| TailItem::Snapshot { snapshot: snapshot.clone(), caught_up });
                }
                Err(error) => {
                    stream.hand_out(|| TailItem::Failed(error.clone()));
                    stream.followers.clear();
                }
            }
        }
    }

    fn deliver_entries(&mut self, replies: Replies) -> Result<()> {
        let replies = Arc::new(replies);
        let mut cursor = replies.cursor();
        let Some(count) = cursor.array() else {
            return match cursor.next() {
                Some(View::Error(text)) => Err(errors::from_redis(text)),
                Some(_) => {
                    self.streams.values_mut().for_each(|stream| stream.caught_up = true);
                    Ok(())
                }
                None => Err(errors::unexpected("XREAD")),
            };
        };
        // Streams of which nothing came have nothing more.
        self.streams.values_mut().for_each(|stream| stream.caught_up = true);
        let (mut entries, mut most) = (0, 0);
        for _ in 0..count {
            cursor.array();
            let name = cursor.bytes().unwrap_or_default();
            let place = cursor.place();
            let found = cursor.array().unwrap_or_default();
            let mut last = None;
            for _ in 0..found {
                let mut entry = cursor;
                entry.array();
                last = entry.bytes().and_then(EntryId::parse);
                cursor.pass();
            }
            (entries, most) = (entries + found, most.max(found));
            let stream = std::str::from_utf8(name).ok().and_then(|name| self.streams.get_mut(name));
            if let (Some(stream), Some(last)) = (stream, last) {
                stream.after = last;
                stream.active = true;
                stream.caught_up = found < self.count;
                stream.hand_out(|| TailItem::Entries(replies.clone(), place));
            }
        }
        self.adapt(entries, most, replies.len());
        Ok(())
    }

    /// Asks for more entries at once while there are more, and for fewer when they are large.
    fn adapt(&mut self, entries: usize, most: usize, bytes: usize) {
        if entries == 0 {
            return;
        }
        let fitting = (REPLY_BYTES_WANTED / self.streams.len().max(1)) / (bytes / entries).max(1);
        if most == self.count || fitting < self.count {
            self.count = (self.count * 2).min(fitting).clamp(1, COUNT_MAX);
        }
    }

    /// Finds out what is wrong with a read, and goes on with what can be read.
    async fn recover(&mut self, error: &Error) {
        let now = Instant::now();
        for stream in self.streams.values_mut() {
            // Much may have happened meanwhile.
            stream.due = now;
            stream.caught_up = false;
            if stream.keys.is_none() && matches!(error.code(), Code::BackendUnavailable | Code::BackendTimeout) {
                stream.hand_out(|| TailItem::Lost(error.clone()));
            }
        }
        if error.code() == Code::Overloaded {
            self.count = (self.count / 8).max(1);
            return;
        }
        if !error.retryable() {
            self.probe(error).await;
        }
        tokio::time::sleep(PAUSE).await;
    }

    /// One stream that cannot be read fails the read of all. Reads each by itself, and lets go those that fail.
    async fn probe(&mut self, error: &Error) {
        let names: Vec<String> = self.streams.keys().cloned().collect();
        let mut out = Vec::new();
        for name in &names {
            let after = self.streams[name].after.to_string();
            let command = [&b"XREAD"[..], b"COUNT", b"1", b"STREAMS", name.as_bytes(), after.as_bytes()];
            resp::command(&mut out, &command);
        }
        let answer = self.blocking.call(Request::new(out, names.len() as u32, self.checks.response_timeout)).await;
        let mut failed: Vec<(String, Error)> = Vec::new();
        match answer {
            Ok(replies) => {
                let mut cursor = replies.cursor();
                for name in names {
                    if let Some(View::Error(text)) = cursor.peek() {
                        failed.push((name, errors::from_redis(text)));
                    }
                    cursor.pass();
                }
            }
            // Not one stream is at fault, but the connection: nobody is let in.
            Err(again) if !again.retryable() => failed = names.into_iter().map(|name| (name, error.clone())).collect(),
            Err(_) => {}
        }
        for (name, error) in failed.into_iter().filter(|(_, error)| !error.retryable()) {
            if let Some(mut stream) = self.streams.remove(&name) {
                stream.hand_out(|| TailItem::Failed(error.clone()));
            }
        }
    }
}

impl Stream {
    /// Gives every follower an item. A follower whose queue is full is let go, unless it can do without the item.
    fn hand_out(&mut self, item: impl Fn() -> TailItem) {
        self.followers.retain(|follower| match follower.items.try_send(item()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(item)) => matches!(item, TailItem::Snapshot { .. } | TailItem::Lost(_)),
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }
}

/// Whether Redis lets this user end blocked reads. No client has the number 0.
async fn allowed_to_unblock(control: &Link, timeout: Duration) -> bool {
    let answer = control.call(Request::new(unblock_command(0), 1, timeout)).await;
    !answer.is_ok_and(|replies| matches!(replies.cursor().next(), Some(View::Error(_))))
}

/// Ends the blocked read of a connection. It may not be blocked yet, so this tries until it was; it is dropped when the
/// read returned.
async fn unblock(control: Link, client_id: u64, timeout: Duration) {
    let command = Bytes::from(unblock_command(client_id));
    let mut pause = Duration::from_millis(1);
    loop {
        match control.call(Request::new(command.clone(), 1, timeout)).await {
            Ok(replies) if replies.cursor().next() != Some(View::Int(0)) => return,
            Err(error) if error.code() == Code::ShuttingDown => return,
            _ => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn unblock_command(client_id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    resp::command(&mut out, &[b"CLIENT", b"UNBLOCK", client_id.to_string().as_bytes()]);
    out
}
