//! Appends: a batch becomes one piece of protocol, which stores all of it or nothing.

use bytes::Bytes;
use futures::FutureExt as _;
use synapse_hub_core::{
    Code, Error, Event, Layout, Position, Result,
    backend::{Append, Appended, Commit, PRODUCER_IDLE, PRODUCER_WINDOW_BATCHES, ProducerBatch},
    batch,
};

use crate::{
    Shared,
    entry::{BATCH_FIELD, EntryId, FieldSink, FlatEncoder},
    errors,
    keys::Keys,
    link::{Request, settle},
    resp::{self, Cursor, Replies, View},
    scripts,
};

/// The most fields that a script can hand to one `XADD`; an event with more is kept as one field.
const SCRIPT_FIELDS_MAX: usize = 3000;
/// Batches smaller than this are stored as they are.
const COMPRESSED_BYTES_MIN: usize = 4 << 10;
/// Up to so many entries a producer's batch is less work for Redis as one script than as a transaction.
const SCRIPT_ENTRIES_MAX: usize = 8;
/// About how many bytes the protocol adds to an event.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// Accepts a batch for a stream.
pub(crate) async fn append(shared: &Shared, keys: &Keys, layout: Layout, batch: Append) -> Result<Commit> {
    let events_max = shared.options.event_bytes_max;
    if let Some(index) = batch.events.iter().position(|event| event.size() > events_max) {
        let what =
            format!("Redis takes events of at most {events_max} bytes (`event_bytes_max`); send a reference to it");
        return Err(Error::new(Code::EventTooLarge, what).index(index));
    }
    if batch.events.is_empty() {
        return Ok(futures::future::ready(Ok(Appended::default())).boxed());
    }
    let estimate = batch.events.iter().map(|event| event.size() + EVENT_OVERHEAD_BYTES).sum::<usize>();
    let size = u32::try_from(estimate.min(shared.options.append_bytes_max)).unwrap_or(u32::MAX);
    let room = shared.room.clone().acquire_many_owned(size).await.map_err(|_| errors::shutting_down())?;
    let (bytes, values, plan) = encode(shared, keys, layout, &batch, estimate);
    let mut request = Request::new(bytes, values, shared.options.response_timeout);
    request.room = Some(room);
    let answer = shared.append.send(request);
    let (control, stream, timeout) = (shared.control.clone(), keys.stream.clone(), shared.options.response_timeout);
    let outage = shared.outage.clone();
    Ok(async move {
        let outcome = async {
            let replies = settle(answer).await?;
            plan.read(&replies).inspect_err(|error| {
                if let Some(undo) = plan.undo(&replies, &stream) {
                    tracing::error!(stream, %error, "took entries out again whose batch could not be finished");
                    drop(control.send(Request::new(undo, 1, timeout)));
                }
            })
        };
        outcome.await.inspect_err(|_| outage.failure())
    }
    .boxed())
}

/// How the replies to an append are read.
struct Plan {
    events: usize,
    /// As many as events, or one for all of them.
    entries: usize,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One `XADD`.
    Single,
    /// `MULTI`, an `XADD` an entry, perhaps the script, `EXEC`.
    Transaction { script: bool },
    /// One script that does everything.
    Script,
}

fn encode(shared: &Shared, keys: &Keys, layout: Layout, batch: &Append, estimate: usize) -> (Bytes, u32, Plan) {
    let mut out = Vec::with_capacity(estimate + 2048);
    let mut entries = Entries { shared, layout, encoder: FlatEncoder::default(), arguments: Arguments::default() };
    let events = batch.events.len();
    if let Some(window) = batch.dedup_window {
        entries.encoder.fields_max = SCRIPT_FIELDS_MAX;
        encode_dedup(&mut out, keys, batch, window, &mut entries);
        return (out.into(), 1, Plan { events, entries: events, form: Form::Script });
    }
    let count = if layout == Layout::Packed { 1 } else { events };
    if let Some(producer) = &batch.producer
        && count <= SCRIPT_ENTRIES_MAX
        && encode_small(&mut out, keys, batch, producer, &mut entries)
    {
        return (out.into(), 1, Plan { events, entries: count, form: Form::Script });
    }
    let script = batch.producer.is_some();
    let transaction = count > 1 || script;
    if transaction {
        resp::command(&mut out, &[b"MULTI"]);
    }
    let mut head = Vec::new();
    for argument in [&b"XADD"[..], keys.stream.as_bytes(), b"*"] {
        resp::bulk(&mut head, argument);
    }
    entries.each(&batch.events, |_, arguments| {
        resp::array(&mut out, 3 + arguments.count);
        out.extend_from_slice(&head);
        out.extend_from_slice(&arguments.out);
    });
    if !transaction {
        return (out.into(), 1, Plan { events, entries: count, form: Form::Single });
    }
    if let Some(producer) = &batch.producer {
        encode_finish(&mut out, keys, producer, count);
    }
    resp::command(&mut out, &[b"EXEC"]);
    let values = 2 + count + usize::from(script);
    (out.into(), values as u32, Plan { events, entries: count, form: Form::Transaction { script } })
}

/// Writes the call of the script that appends a small batch. False, and nothing is written, when an event has more fields
/// than a script can hand on.
fn encode_small(
    out: &mut Vec<u8>,
    keys: &Keys,
    batch: &Append,
    producer: &ProducerBatch,
    entries: &mut Entries<'_>,
) -> bool {
    // The number of arguments stands before them, so they are written aside.
    let mut rest = Vec::with_capacity(out.capacity());
    let (mut count, mut fits, mut number) = (4, true, 0);
    entries.each(&batch.events, |_, arguments| {
        resp::bulk_display(&mut rest, arguments.count);
        rest.extend_from_slice(&arguments.out);
        count += 1 + arguments.count;
        number += 1;
        fits &= arguments.count <= 2 * SCRIPT_FIELDS_MAX;
    });
    if fits {
        scripts::APPEND.call(out, 2, count);
        resp::bulk(out, keys.stream.as_bytes());
        resp::bulk(out, keys.producer(&producer.id).as_bytes());
        ProducerNumbers::of(producer, number).write(out);
        out.extend_from_slice(&rest);
    }
    fits
}

fn encode_finish(out: &mut Vec<u8>, keys: &Keys, producer: &ProducerBatch, entries: usize) {
    let key = keys.producer(&producer.id);
    let numbers = ProducerNumbers::of(producer, entries);
    scripts::FINISH.write(
        out,
        &[keys.stream.as_bytes(), key.as_bytes(), keys.state.as_bytes()],
        &numbers.0.each_ref().map(|text| text.as_bytes()),
    );
}

/// What the scripts want to know of a producer's batch.
struct ProducerNumbers([String; 4]);

impl ProducerNumbers {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|text| resp::bulk(out, text.as_bytes()));
    }

    fn of(producer: &ProducerBatch, entries: usize) -> Self {
        Self([
            format!("{:020}", producer.sequence),
            entries.to_string(),
            PRODUCER_WINDOW_BATCHES.to_string(),
            PRODUCER_IDLE.as_millis().to_string(),
        ])
    }
}

fn encode_dedup(
    out: &mut Vec<u8>,
    keys: &Keys,
    batch: &Append,
    window: std::time::Duration,
    entries: &mut Entries<'_>,
) {
    let nobody = ProducerBatch { id: Default::default(), sequence: 0 };
    let numbers = ProducerNumbers::of(batch.producer.as_ref().unwrap_or(&nobody), batch.events.len());
    // The number of arguments stands before them, so they are written aside.
    let mut rest = Vec::with_capacity(out.capacity());
    numbers.write(&mut rest);
    resp::bulk(&mut rest, keys.dedup.as_bytes());
    resp::bulk_display(&mut rest, window.as_millis().max(1));
    let mut count = 6;
    for event in &batch.events {
        entries.each(std::slice::from_ref(event), |event, arguments| {
            resp::bulk_display(&mut rest, arguments.count);
            resp::bulk(&mut rest, event.source().as_bytes());
            resp::bulk(&mut rest, event.id().as_bytes());
            rest.extend_from_slice(&arguments.out);
            count += 3 + arguments.count;
        });
    }
    scripts::DEDUP.call(out, 1 + usize::from(batch.producer.is_some()), count);
    resp::bulk(out, keys.stream.as_bytes());
    if let Some(producer) = &batch.producer {
        resp::bulk(out, keys.producer(&producer.id).as_bytes());
    }
    out.extend_from_slice(&rest);
}

/// Writes the fields of entries.
struct Entries<'s> {
    shared: &'s Shared,
    layout: Layout,
    encoder: FlatEncoder,
    arguments: Arguments,
}

impl Entries<'_> {
    /// Shows the fields of each entry that these events become, with the first event of it.
    fn each(&mut self, events: &[Event], mut show: impl FnMut(&Event, &Arguments)) {
        match self.layout {
            Layout::Flat => {
                for event in events {
                    self.arguments.clear();
                    self.encoder.encode(event, &mut self.arguments);
                    show(event, &self.arguments);
                }
            }
            Layout::Packed => {
                self.arguments.clear();
                let encoded = batch::encode(events);
                // A few events compress badly, and setting up costs more than the rest.
                let level = self.shared.options.packed_zstd_level.filter(|_| encoded.len() >= COMPRESSED_BYTES_MIN);
                let stored = batch::encode_stored(&encoded, level);
                self.arguments.field(BATCH_FIELD.as_bytes(), &stored);
                events.iter().take(1).for_each(|event| show(event, &self.arguments));
            }
        }
    }
}

/// Fields as arguments of a command.
#[derive(Default)]
struct Arguments {
    out: Vec<u8>,
    count: usize,
}

impl Arguments {
    fn clear(&mut self) {
        self.out.clear();
        self.count = 0;
    }
}

impl FieldSink for Arguments {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        resp::bulk(&mut self.out, name);
        resp::bulk(&mut self.out, value);
        self.count += 2;
    }
}

impl Plan {
    fn read(&self, replies: &Replies) -> Result<Appended> {
        let mut cursor = replies.cursor();
        match self.form {
            Form::Single => {
                let first = id(cursor.next())?;
                Ok(Appended { positions: self.spread(&[first])?, ..Appended::default() })
            }
            Form::Transaction { script } => self.read_transaction(cursor, script),
            Form::Script => self.read_script(&mut cursor),
        }
    }

    fn read_transaction(&self, mut cursor: Cursor<'_>, script: bool) -> Result<Appended> {
        // The first refusal is the reason; the transaction's own error only says that there was one.
        for _ in 0..1 + self.entries + usize::from(script) {
            errors::refused(cursor.next())?;
        }
        if cursor.array().is_none() {
            errors::refused(cursor.next())?;
            return Err(errors::unexpected("EXEC"));
        }
        let ids = (0..self.entries).map(|_| id(cursor.next())).collect::<Result<Vec<_>>>()?;
        if script && let Some(known) = self.read_verdict(&mut cursor)? {
            return Ok(known);
        }
        Ok(Appended { positions: self.spread(&ids)?, ..Appended::default() })
    }

    /// What a script says of a producer's batch: nothing when it is new.
    fn read_verdict(&self, cursor: &mut Cursor<'_>) -> Result<Option<Appended>> {
        let Some(count) = cursor.array() else {
            errors::refused(cursor.next())?;
            return Err(errors::unexpected("a script"));
        };
        match cursor.bytes() {
            Some(b"stored") => Ok(None),
            Some(b"known") => {
                let first = id(cursor.next())?;
                let ids = (2..count).map(|_| id(cursor.next())).collect::<Result<Vec<_>>>()?;
                Ok(Some(Appended { positions: self.first_time(first, &ids)?, duplicate: true, deduplicated: vec![] }))
            }
            Some(b"old") => Err(too_old()),
            _ => Err(errors::unexpected("a script")),
        }
    }

    fn read_script(&self, cursor: &mut Cursor<'_>) -> Result<Appended> {
        let mut there = *cursor;
        if let Some(known) = self.read_verdict(cursor)? {
            return Ok(known);
        }
        there.next();
        there.next();
        let (mut ids, mut deduplicated) = (Vec::with_capacity(self.entries), Vec::new());
        for index in 0..self.entries {
            let text = there.bytes().ok_or_else(|| errors::unexpected("a script"))?;
            let known = text.strip_prefix(b"=");
            if known.is_some() {
                deduplicated.push(index as u32);
            }
            ids.push(parse(known.unwrap_or(text))?);
        }
        Ok(Appended { positions: self.spread(&ids)?, duplicate: false, deduplicated })
    }

    /// The positions of the first time. Of trimmed entries only the batch's first id is known.
    fn first_time(&self, first: EntryId, ids: &[EntryId]) -> Result<Vec<Position>> {
        if self.entries < self.events {
            return self.spread(&[first]);
        }
        let gone = self.events.saturating_sub(ids.len());
        let all = std::iter::repeat_n(first, gone).chain(ids.iter().copied());
        all.take(self.events).map(|id| position(id, 0)).collect()
    }

    /// A position an event, of an entry each or all of one packed entry.
    fn spread(&self, ids: &[EntryId]) -> Result<Vec<Position>> {
        match ids {
            [only] => (0..self.events).map(|index| position(*only, index as u32)).collect(),
            ids => ids.iter().map(|id| position(*id, 0)).collect(),
        }
    }

    /// The command that removes what a transaction added although its script failed. Redis checks a script's rights and
    /// the memory before the transaction, so this takes a defect.
    fn undo(&self, replies: &Replies, stream: &str) -> Option<Vec<u8>> {
        if self.form != (Form::Transaction { script: true }) {
            return None;
        }
        let mut cursor = replies.cursor();
        for _ in 0..2 + self.entries {
            cursor.pass();
        }
        cursor.array()?;
        let ids: Vec<&[u8]> = (0..self.entries).filter_map(|_| cursor.bytes()).collect();
        if ids.is_empty() || !matches!(cursor.next(), Some(View::Error(_))) {
            return None;
        }
        let mut out = Vec::new();
        resp::command(&mut out, &[&[&b"XDEL"[..], stream.as_bytes()], ids.as_slice()].concat());
        Some(out)
    }
}

fn id(reply: Option<View<'_>>) -> Result<EntryId> {
    errors::refused(reply)?;
    parse(reply.and_then(View::bytes).unwrap_or_default())
}

fn parse(text: &[u8]) -> Result<EntryId> {
    EntryId::parse(text).ok_or_else(|| errors::unexpected("XADD"))
}

fn position(id: EntryId, index: u32) -> Result<Position> {
    id.position(index).ok_or_else(|| {
        let what = format!(
            "the stream's ids are too large for a position ({id}): somebody added one by hand; the events were stored, but delete the stream or set its last id back with XSETID"
        );
        Error::new(Code::BackendError, what)
    })
}

fn too_old() -> Error {
    Error::new(
        Code::ProducerSequenceTooOld,
        format!(
            "the batch is older than the {PRODUCER_WINDOW_BATCHES} that are remembered of its producer; it may be stored already, so it was not stored again"
        ),
    )
}
