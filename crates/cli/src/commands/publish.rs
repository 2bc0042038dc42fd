//! `synapse publish`

use std::time::Duration;

use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;
use synapse_hub_client::{Client, Durability, PublishOptions, Published};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    time::timeout,
};

use super::client;
use crate::{
    args::{self, Global, Output, Publish},
    failure::Failure,
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
        lines: 0,
        durability: String::new(),
    };
    let given = match &args.event {
        Some(kind) => vec![input::event(kind, &args.data)?],
        None => args.events.iter().flat_map(|text| input::events(text)).collect(),
    };
    if !given.is_empty() {
        sender.send_all(given).await?;
    } else if let Some(path) = &args.file {
        let file = tokio::fs::File::open(path).await;
        let file = file.map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
        sender.send_lines(file).await?;
    } else {
        sender.send_lines(tokio::io::stdin()).await?;
    }
    sender.finish()
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
    batch: Vec<Bytes>,
    batch_bytes: usize,
    /// Lines read before this batch, so that a refusal can name its line.
    lines: usize,
    durability: String,
}

impl Sender<'_> {
    /// Reads one event a line, or one list over all lines. Lines that come together go together; none waits for those of
    /// a slow producer.
    async fn send_lines(&mut self, from: impl AsyncRead + Unpin) -> Result<(), Failure> {
        let mut reader = BufReader::with_capacity(BATCH_BYTES_MAX, from);
        let mut line = Vec::new();
        let mut first = true;
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
            if line.len() > LINE_BYTES_MAX {
                let number = self.lines + self.batch.len() + 1;
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
                self.add(Bytes::copy_from_slice(text)).await?;
            }
            line.clear();
        }
    }

    async fn send_all(&mut self, events: Vec<Bytes>) -> Result<(), Failure> {
        for event in events {
            self.add(event).await?;
        }
        self.send().await
    }

    /// Puts an event into the batch, which goes when it is full.
    async fn add(&mut self, event: Bytes) -> Result<(), Failure> {
        let full = self.batch.len() >= self.args.batch.max(1) || self.batch_bytes + event.len() > BATCH_BYTES_MAX;
        if full {
            self.send().await?;
        }
        self.batch_bytes += event.len();
        self.batch.push(event);
        Ok(())
    }

    /// Sends the batch, if there is one.
    async fn send(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
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
        let count = batch.len();
        let options = PublishOptions { durability, partial: self.args.partial };
        let published = self.client.publish_flat(&self.args.topic, batch, options).await.map_err(|mut error| {
            error.refused.iter_mut().for_each(|refusal| refusal.index += self.lines as u32);
            error
        })?;
        self.report(&published)?;
        self.lines += count;
        self.bar.inc(count as u64);
        Ok(())
    }

    fn report(&mut self, published: &Published) -> Result<(), Failure> {
        let stored = published.positions.iter().filter(|position| !position.is_empty()).count() as u64;
        self.stored += stored;
        self.refused += published.refused.len() as u64;
        self.duplicates += if published.duplicate { stored } else { published.deduplicated.len() as u64 };
        self.durability.clone_from(&published.durability);
        for refusal in &published.refused {
            let place = if refusal.field.is_empty() { String::new() } else { format!(", field {}", refusal.field) };
            let index = self.lines + refusal.index as usize;
            self.bar.suspend(|| {
                eprintln!(
                    "{} event {index}{place}: {} [{}]",
                    output::yellow_err("refused"),
                    refusal.message,
                    refusal.code
                )
            });
        }
        if self.output == Output::Json {
            for (index, position) in published.positions.iter().enumerate().filter(|(_, position)| !position.is_empty())
            {
                let id = published.ids.get(index).cloned().unwrap_or_default();
                let partition = published.partitions.get(index).copied().unwrap_or_default();
                let object = json!({"topic": self.args.topic, "partition": partition, "position": position, "id": id});
                output::json(&object)?;
            }
        } else if self.stored <= 5 && self.lines == 0 {
            for position in published.positions.iter().filter(|position| !position.is_empty()) {
                output::line(&format!("{} {}", output::cyan(&self.args.topic), output::bold(position)))?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
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
        if self.refused > 0 {
            return Err(Failure::refused(format!("{} events were refused; the others are stored", self.refused)));
        }
        Ok(())
    }
}
