//! `synapse publish`

use std::{io::IsTerminal as _, time::Duration};

use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;
use synapse_hub_client::{Client, Durability, Event, PublishOptions, Published, Refusal};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    time::timeout,
};

use super::client;
use crate::{
    args::{self, Global, Output, Publish},
    failure::{Failure, refusal},
    input, output,
};

/// The longest line that is read as one event, in bytes.
const LINE_BYTES_MAX: usize = 64 << 20;
/// The most bytes in one request, unless one event has more: well below what a hub takes.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// How long a batch waits for its next line.
const LINGER: Duration = Duration::from_millis(5);

pub(super) async fn run(global: &Global, args: &Publish) -> Result<(), Failure> {
    let client = client(global)?;
    // Publishing waits for a hub that is away for a moment; one that was never there is told at once.
    client.info().await?;
    let mut sender = Sender {
        client,
        args,
        output: global.output,
        bar: output::progress(global.output, None, "publishing"),
        stored: 0,
        duplicates: 0,
        refused: 0,
        batch: Vec::new(),
        batch_bytes: 0,
        sent: 0,
        numbers: Numbers::Events,
        durability: String::new(),
    };
    let outcome = sender.work().await;
    sender.bar.finish_and_clear();
    match outcome {
        Ok(()) => sender.finish(),
        // What was stored stays stored.
        Err(failure) => Err(failure.after(sender.stored)),
    }
}

/// What the number of an event counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// There is only one event.
    None,
    /// Events, from 0.
    Events,
    /// Lines of the input, from 1.
    Lines,
}

/// An event that is to be sent.
struct Pending {
    number: usize,
    flat: Bytes,
    /// In the form that has a partition key, when it is to have one.
    keyed: Option<Event>,
}

struct Sender<'a> {
    client: Client,
    args: &'a Publish,
    output: Output,
    bar: ProgressBar,
    stored: u64,
    duplicates: u64,
    refused: u64,
    /// What goes next.
    batch: Vec<Pending>,
    batch_bytes: usize,
    /// How many events were sent.
    sent: usize,
    numbers: Numbers,
    durability: String,
}

impl Sender<'_> {
    async fn work(&mut self) -> Result<(), Failure> {
        let given = match &self.args.event {
            Some(kind) => vec![input::event(kind, &self.args.data)?],
            None => self.args.events.iter().flat_map(|text| input::events(text)).collect(),
        };
        if !given.is_empty() {
            return self.send_all(given).await;
        }
        if let Some(path) = &self.args.file {
            let file = tokio::fs::File::open(path).await;
            let file = file.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
            return self.send_lines(file).await;
        }
        if self.output == Output::Human && std::io::stdin().is_terminal() {
            self.bar.suspend(|| eprintln!("reading events from standard input, one a line; Ctrl-D ends"));
        }
        self.send_lines(tokio::io::stdin()).await
    }

    /// Reads one event a line, or one list over all lines. Lines that come together go together; none waits for those of
    /// a slow producer.
    async fn send_lines(&mut self, from: impl AsyncRead + Unpin) -> Result<(), Failure> {
        let mut reader = BufReader::with_capacity(BATCH_BYTES_MAX, from);
        let mut line = Vec::new();
        let mut first = true;
        let mut number = 0;
        self.numbers = Numbers::Lines;
        loop {
            let reading = reader.read_until(b'\n', &mut line);
            let read = if self.batch.is_empty() { Ok(reading.await) } else { timeout(LINGER, reading).await };
            let Ok(read) = read else {
                // What there is of the next line stays in `line`.
                self.send().await?;
                continue;
            };
            read?;
            if line.is_empty() {
                return self.send().await;
            }
            number += 1;
            if line.len() > LINE_BYTES_MAX {
                return Err(Failure::refused(format!("line {number} is longer than {LINE_BYTES_MAX} bytes")));
            }
            let text = line.trim_ascii();
            if first && text.starts_with(b"[") {
                reader.read_to_end(&mut line).await?;
                let text = String::from_utf8(line).map_err(|_| Failure::refused("the input is not UTF-8"))?;
                return self.send_all(input::events(&text)).await;
            }
            if !text.is_empty() {
                first = false;
                self.add(number, Bytes::copy_from_slice(text)).await?;
            }
            line.clear();
        }
    }

    async fn send_all(&mut self, events: Vec<Bytes>) -> Result<(), Failure> {
        self.numbers = if events.len() == 1 { Numbers::None } else { Numbers::Events };
        for (number, event) in events.into_iter().enumerate() {
            self.add(number, event).await?;
        }
        self.send().await
    }

    /// Puts an event into the batch, which goes when it is full.
    async fn add(&mut self, number: usize, mut flat: Bytes) -> Result<(), Failure> {
        let full = self.batch.len() >= self.args.batch as usize || self.batch_bytes + flat.len() > BATCH_BYTES_MAX;
        if full {
            self.send().await?;
        }
        if let Some(source) = self.args.source.as_deref().filter(|source| !source.is_empty()) {
            flat = input::sourced(flat, source);
        }
        let keyed = match self.args.key.as_deref().map(|key| input::keyed(&flat, key)).transpose() {
            Ok(keyed) => keyed,
            Err(refused) if self.args.partial => return self.tell_refused(number, &refused),
            Err(refused) => {
                let place = place(self.numbers, number);
                return Err(Failure::with(4, &refused.code, refusal(&refused, &place)));
            }
        };
        self.batch_bytes += flat.len();
        self.batch.push(Pending { number, flat, keyed });
        Ok(())
    }

    /// Sends the batch, if there is one.
    async fn send(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let durability = match self.args.durability {
            None => Durability::Unspecified,
            Some(args::Durability::Memory) => Durability::Memory,
            Some(args::Durability::Stored) => Durability::Stored,
            Some(args::Durability::Synced) => Durability::Synced,
        };
        let options = PublishOptions { durability, partial: self.args.partial };
        let published = if self.args.key.is_some() {
            let events = batch.iter_mut().filter_map(|pending| pending.keyed.take()).collect();
            self.client.publish_with(&self.args.topic, events, options).await
        } else {
            let events = batch.iter().map(|pending| pending.flat.clone()).collect();
            self.client.publish_flat(&self.args.topic, events, options).await
        };
        let numbers = self.numbers;
        let published = published.map_err(|error| {
            Failure::publishing(error, |index| batch.get(index).map_or(String::new(), |at| place(numbers, at.number)))
        })?;
        self.report(&batch, &published)?;
        self.sent += batch.len();
        self.bar.inc(batch.len() as u64);
        Ok(())
    }

    fn report(&mut self, batch: &[Pending], published: &Published) -> Result<(), Failure> {
        let stored = published.positions.iter().filter(|position| !position.is_empty()).count() as u64;
        self.stored += stored;
        self.duplicates += if published.duplicate { stored } else { published.deduplicated.len() as u64 };
        self.durability.clone_from(&published.durability);
        for refused in &published.refused {
            let number = batch.get(refused.index as usize).map_or(0, |pending| pending.number);
            self.tell_refused(number, refused)?;
        }
        let placed = batch.iter().zip(&published.positions).enumerate().filter(|(_, (_, at))| !at.is_empty());
        if self.output == Output::Json {
            for (index, (pending, position)) in placed {
                let given = published.ids.get(index).filter(|id| !id.is_empty()).cloned();
                let id = given.or_else(|| input::attribute(&pending.flat, "id")).unwrap_or_default();
                let partition = published.partitions.get(index).copied().unwrap_or_default();
                let mut object = json!({"topic": self.args.topic, "partition": partition, "position": position,
                    "id": id, "durability": published.durability});
                if published.duplicate {
                    object["duplicate"] = true.into();
                }
                if published.deduplicated.contains(&(index as u32)) {
                    object["deduplicated"] = true.into();
                }
                output::json(&object)?;
            }
        } else if self.stored <= 5 && self.sent == 0 {
            for (_, (_, position)) in placed {
                output::line(&format!("{} {}", output::cyan(&self.args.topic), output::bold(position)))?;
            }
        }
        Ok(())
    }

    /// Tells on standard error of an event that was refused while others are stored.
    fn tell_refused(&mut self, number: usize, refused: &Refusal) -> Result<(), Failure> {
        self.refused += 1;
        let line = if self.output == Output::Json {
            let mut object = json!({"code": refused.code, "field": refused.field, "message": refused.message});
            object[if self.numbers == Numbers::Lines { "line" } else { "index" }] = number.into();
            json!({"refused": object}).to_string()
        } else {
            let told = refusal(refused, &place(self.numbers, number));
            format!("{} {told} [{}]", output::yellow_err("refused"), refused.code)
        };
        self.bar.suspend(|| eprintln!("{line}"));
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        if self.output == Output::Human {
            let mut summary = format!("{} stored", output::count(self.stored));
            if self.duplicates > 0 {
                summary.push_str(&format!(", {} of them before", output::count(self.duplicates)));
            }
            if !self.durability.is_empty() {
                summary.push_str(&format!(" ({})", self.durability));
            }
            eprintln!("{summary}");
        }
        match self.refused {
            0 => Ok(()),
            1 => Err(Failure::refused("1 event was refused; the others are stored")),
            many => {
                Err(Failure::refused(format!("{} events were refused; the others are stored", output::count(many))))
            }
        }
    }
}

/// Where an event is in the input.
fn place(numbers: Numbers, number: usize) -> String {
    match numbers {
        Numbers::None => String::new(),
        Numbers::Events => format!("event {number}"),
        Numbers::Lines => format!("line {number}"),
    }
}
