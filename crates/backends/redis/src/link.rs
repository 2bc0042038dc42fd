//! A connection that requests are sent through, which makes itself again when it is lost.
//!
//! Requests are answered in the order in which they were sent. What gathers while earlier requests are under way goes
//! out as one write. A request that was not answered when its connection broke fails: nobody knows whether Redis acted.
//! One that waits for a connection fails when its time is over.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use synapse_hub_core::{Code, Error, Result};
use tokio::{
    io::AsyncWrite as _,
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, Sleep},
};
use tokio_util::{io::poll_read_buf, sync::CancellationToken};

use crate::{
    backoff::Backoff,
    connect::{Connected, Dialer, Stream},
    errors,
    outage::Outage,
    resp::{Parser, Replies},
};

/// The least room that is made for what arrives.
const READ_BYTES_MIN: usize = 16 << 10;
/// The most room that is kept ready for replies like the last ones.
const READ_BYTES_KEPT_MAX: usize = 2 << 20;
/// The most parts of a write that are given to the system at once.
const WRITE_PARTS_MAX: usize = 64;

/// What to send, and how the answer is to be.
pub(crate) struct Request {
    pub(crate) bytes: Bytes,
    /// How many replies it gets.
    pub(crate) values: u32,
    /// From when it was handed over until it is answered.
    pub(crate) timeout: Duration,
    /// An answer that is larger breaks the connection and is an error, rather than filling the memory.
    pub(crate) reply_bytes_max: usize,
    /// Room that it takes, given back when it is answered.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Request {
    pub(crate) fn new(bytes: impl Into<Bytes>, values: u32, timeout: Duration) -> Self {
        Self { bytes: bytes.into(), values, timeout, reply_bytes_max: u32::MAX as usize, room: None }
    }
}

/// What a link is to do.
pub(crate) struct Options {
    /// How many writes may be unanswered at once.
    pub(crate) pipelines_max: usize,
    /// A write is not made larger than this by gathering requests.
    pub(crate) pipeline_bytes_max: usize,
}

/// The way to send requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    queue: mpsc::UnboundedSender<Pending>,
    shared: Arc<Shared>,
}

struct Shared {
    client_id: AtomicU64,
    closing: AtomicBool,
}

/// Resolves to the replies, in the order in which the requests were sent.
pub(crate) type Answer = oneshot::Receiver<Result<Replies>>;

impl Link {
    /// A link over this connection, and the task that keeps it, which ends when `stop` is cancelled and everything is
    /// answered.
    pub(crate) fn new(
        dialer: Dialer,
        connected: Connected,
        options: Options,
        outage: Arc<Outage>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, requests) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { client_id: AtomicU64::new(0), closing: AtomicBool::new(false) });
        let keeper = Keeper {
            dialer,
            options,
            outage,
            stop,
            shared: shared.clone(),
            requests,
            waiting: VecDeque::new(),
            stopping: false,
        };
        (Self { queue, shared }, keeper.run(connected))
    }

    /// Hands a request over. Requests are sent in the order of these calls.
    pub(crate) fn send(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + request.timeout;
        if !self.shared.closing.load(Ordering::Acquire) {
            // When the keeper has ended, the answer is closed with the queue.
            _ = self.queue.send(Pending { request, deadline, reply });
        }
        answer
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call(&self, request: Request) -> Result<Replies> {
        settle(self.send(request)).await
    }

    /// The number of the current connection at the server, for `CLIENT UNBLOCK`.
    pub(crate) fn client_id(&self) -> u64 {
        self.shared.client_id.load(Ordering::Acquire)
    }
}

/// Waits for an answer.
pub(crate) async fn settle(answer: Answer) -> Result<Replies> {
    answer.await.unwrap_or_else(|_| Err(errors::shutting_down()))
}

struct Pending {
    request: Request,
    deadline: Instant,
    reply: oneshot::Sender<Result<Replies>>,
}

/// Keeps a link's connection.
struct Keeper {
    dialer: Dialer,
    options: Options,
    outage: Arc<Outage>,
    stop: CancellationToken,
    shared: Arc<Shared>,
    requests: mpsc::UnboundedReceiver<Pending>,
    /// Requests that were not sent yet.
    waiting: VecDeque<Pending>,
    stopping: bool,
}

impl Keeper {
    async fn run(mut self, first: Connected) {
        let mut connected = first;
        let mut backoff = Backoff::new();
        loop {
            self.shared.client_id.store(connected.client_id, Ordering::Release);
            let mut session = Session::new(connected.stream, &mut self);
            let error = session.run().await;
            if session.answered > 0 {
                backoff = Backoff::new();
            }
            let Some(error) = error else { return self.refuse_rest() };
            // A connection that was given up because of an answer's size is no outage.
            let outage = error.code() != Code::Overloaded;
            if outage {
                self.outage.down(&error);
            }
            match self.reconnect(&mut backoff).await {
                Some(again) => connected = again,
                None => return self.refuse_rest(),
            }
            if outage {
                self.outage.up();
            }
        }
    }

    /// Tries until it succeeds. Meanwhile requests are taken, and those whose time is over are refused.
    async fn reconnect(&mut self, backoff: &mut Backoff) -> Option<Connected> {
        let mut last = errors::lost("it closed the connection");
        loop {
            let dialer = self.dialer.clone();
            let attempt = async { dialer.dial().await };
            match self.meanwhile(attempt, &last).await? {
                Ok(connected) => return Some(connected),
                Err(error) => {
                    self.outage.failed(&error);
                    // What no retry can heal is said at once; the hub tries on, because an operator may heal it.
                    if !error.retryable() {
                        self.refuse(&error);
                    }
                    last = error;
                }
            }
            self.meanwhile(backoff.pause(), &last).await?;
        }
    }

    /// Does something while requests arrive and expire. `None` when the link is to stop.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>, why: &Error) -> Option<T> {
        tokio::pin!(work);
        loop {
            let expiry = self.waiting.front().map(|pending| pending.deadline);
            tokio::select! {
                outcome = &mut work => return Some(outcome),
                () = self.stop.cancelled() => return None,
                request = self.requests.recv() => self.waiting.push_back(request?),
                () = until(expiry) => {
                    if let Some(expired) = self.waiting.pop_front() {
                        _ = expired.reply.send(Err(why.clone()));
                    }
                }
            }
        }
    }

    fn refuse(&mut self, error: &Error) {
        while let Ok(pending) = self.requests.try_recv() {
            self.waiting.push_back(pending);
        }
        for pending in self.waiting.drain(..) {
            _ = pending.reply.send(Err(error.clone()));
        }
    }

    fn refuse_rest(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.requests.close();
        self.refuse(&errors::shutting_down());
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// One connection while it lives.
struct Session<'k> {
    keeper: &'k mut Keeper,
    stream: Stream,
    parser: Parser,
    received: BytesMut,
    /// Parts that are still to be written.
    out: VecDeque<Bytes>,
    /// Requests that were sent, the oldest first.
    asked: VecDeque<Asked>,
    pipelines: usize,
    /// The size of the latest replies.
    replies_bytes: usize,
    answered: u64,
    timer: Pin<Box<Sleep>>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

struct Asked {
    reply: oneshot::Sender<Result<Replies>>,
    deadline: Instant,
    values: u32,
    reply_bytes_max: usize,
    room: Option<OwnedSemaphorePermit>,
    /// It is the last of those that were written together.
    last: bool,
}

impl<'k> Session<'k> {
    fn new(stream: Stream, keeper: &'k mut Keeper) -> Self {
        let stopped = Box::pin(keeper.stop.clone().cancelled_owned());
        Self {
            keeper,
            stream,
            parser: Parser::default(),
            received: BytesMut::new(),
            out: VecDeque::new(),
            asked: VecDeque::new(),
            pipelines: 0,
            replies_bytes: 0,
            answered: 0,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            stopped,
        }
    }

    /// Serves until the connection breaks, or until it is told to stop and everything is answered (`None`).
    async fn run(&mut self) -> Option<Error> {
        let error = std::future::poll_fn(|cx| self.poll(cx)).await;
        if let Some(error) = &error {
            // What is wrong with the answer to the first one is nothing that those after it did.
            let of_first = matches!(error.code(), Code::BackendTimeout | Code::Overloaded);
            for (index, asked) in self.asked.drain(..).enumerate() {
                let broken = of_first && index > 0;
                let error = if broken { errors::lost("an earlier request failed") } else { error.clone() };
                _ = asked.reply.send(Err(error));
            }
        }
        error
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        if !self.keeper.stopping && self.stopped.as_mut().poll(cx).is_ready() {
            self.keeper.stopping = true;
            self.keeper.shared.closing.store(true, Ordering::Release);
            self.keeper.requests.close();
        }
        loop {
            let drained = self.gather(cx);
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(Some(lost(&error)));
            }
            // A read may free the way for requests that wait.
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
                Poll::Pending => {}
            }
            if drained && self.asked.is_empty() {
                return Poll::Ready(None);
            }
            return self.poll_timer(cx).map(Some);
        }
    }

    /// Takes what waits into one write, if another write may be under way. True when no request will ever come again.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        let mut bytes = 0;
        while self.pipelines < self.keeper.options.pipelines_max && bytes < self.keeper.options.pipeline_bytes_max {
            let pending = match self.keeper.waiting.pop_front() {
                Some(pending) => pending,
                None => match self.keeper.requests.poll_recv(cx) {
                    Poll::Ready(Some(pending)) => pending,
                    Poll::Ready(None) => {
                        self.close_pipeline(bytes);
                        return true;
                    }
                    Poll::Pending => break,
                },
            };
            let Request { bytes: part, values, reply_bytes_max, room, .. } = pending.request;
            if self.asked.is_empty() {
                self.parser.start(values);
            }
            bytes += part.len();
            self.out.push_back(part);
            let Pending { reply, deadline, .. } = pending;
            self.asked.push_back(Asked { reply, deadline, values, reply_bytes_max, room, last: false });
        }
        self.close_pipeline(bytes);
        false
    }

    fn close_pipeline(&mut self, bytes: usize) {
        if bytes > 0
            && let Some(last) = self.asked.back_mut()
        {
            last.last = true;
            self.pipelines += 1;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wrote = false;
        while !self.out.is_empty() {
            let mut parts = [io::IoSlice::new(&[]); WRITE_PARTS_MAX];
            let count = self.out.len().min(WRITE_PARTS_MAX);
            for (part, bytes) in parts.iter_mut().zip(&self.out) {
                *part = io::IoSlice::new(bytes);
            }
            let mut written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            wrote = true;
            while written > 0
                && let Some(front) = self.out.front_mut()
            {
                let done = written.min(front.len());
                front.advance(done);
                written -= done;
                if front.is_empty() {
                    self.out.pop_front();
                }
            }
        }
        if wrote { Pin::new(&mut self.stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Reads once, and answers what can be answered. Ready when something was answered.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            if self.received.capacity() - self.received.len() < READ_BYTES_MIN / 2 {
                let kept = self.replies_bytes.clamp(READ_BYTES_MIN, READ_BYTES_KEPT_MAX);
                // A buffer that holds a part of a large reply at least doubles.
                self.received.reserve(kept.max(self.received.len()));
            }
            match ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.received)) {
                Ok(0) => return Poll::Ready(Err(errors::lost("it closed the connection"))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(lost(&error))),
            }
            if self.answer()? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn answer(&mut self) -> Result<bool> {
        let mut answered = false;
        while let Some(front) = self.asked.front() {
            let replies = match self.parser.read(&mut self.received) {
                Ok(Some(replies)) => replies,
                Ok(None) if self.received.len() > front.reply_bytes_max => return Err(too_large()),
                Ok(None) => break,
                Err(_) => return Err(errors::lost("it does not speak the Redis protocol")),
            };
            self.replies_bytes = (self.replies_bytes - self.replies_bytes / 8).max(replies.len());
            self.answered += 1;
            answered = true;
            if let Some(asked) = self.asked.pop_front() {
                self.pipelines -= usize::from(asked.last);
                drop(asked.room);
                _ = asked.reply.send(Ok(replies));
            }
            if let Some(next) = self.asked.front() {
                self.parser.start(next.values);
            }
        }
        if self.asked.is_empty() && !self.received.is_empty() {
            return Err(errors::lost("it said something unasked"));
        }
        Ok(answered)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(front) = self.asked.front() else { return Poll::Pending };
        // The timer is moved only when it fires or would fire too late: most requests are answered long before.
        if self.timer.deadline() > front.deadline || self.timer.is_elapsed() {
            let deadline = front.deadline;
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let deadline = front.deadline;
            if deadline <= Instant::now() {
                return Poll::Ready(Error::new(
                    Code::BackendTimeout,
                    "Redis did not answer in time (`response_timeout`); whether it acted is not known; try again",
                ));
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

fn lost(error: &io::Error) -> Error {
    errors::lost(&error.to_string())
}

/// The answer to a read is larger than it may be. The reader asks for less.
pub(crate) fn too_large() -> Error {
    Error::new(Code::Overloaded, "an answer of Redis is larger than what is read at once")
}
