//! `synapse publish`

use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;
use synapse_hub_client::{Client, Durability, PublishOptions, Published};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::client;
use crate::{
    args::{self, Global, Output, Publish},
    failure::Failure,
    input, output,
};

/// The longest line that is read as one event, in bytes.
const LINE_BYTES_MAX: usize = 64 << 20;

pub(super) async fn run(global: &Global, args: &Publish) -> Result<(), Failure> {
    let mut sender = Sender {
        client: client(global)?,
        args,
        output: global.output,
        bar: output::progress(global.output, None, "publishing"),
        stored: 0,
        duplicates: 0,
        refused: 0,
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
    /// Lines read before this batch, so that a refusal can name its line.
    lines: usize,
    durability: String,
}

impl Sender<'_> {
    /// Reads one event a line, or one list over all lines.
    async fn send_lines(&mut self, from: impl AsyncRead + Unpin) -> Result<(), Failure> {
        let mut reader = BufReader::with_capacity(1 << 20, from);
        let mut batch = Vec::new();
        let mut line = Vec::new();
        let mut first = true;
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).await?;
            if read > LINE_BYTES_MAX {
                return Err(Failure::refused(format!(
                    "line {} is longer than {LINE_BYTES_MAX} bytes",
                    self.lines + batch.len() + 1
                )));
            }
            let text = line.trim_ascii();
            if first && text.starts_with(b"[") {
                let mut whole = line.clone();
                tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut whole).await?;
                let text = String::from_utf8(whole).map_err(|_| Failure::refused("the input is not UTF-8"))?;
                return self.send_all(input::events(&text)).await;
            }
            if !text.is_empty() {
                first = false;
                batch.push(Bytes::copy_from_slice(text));
            }
            if batch.len() >= self.args.batch.max(1) || (read == 0 && !batch.is_empty()) {
                self.send(std::mem::take(&mut batch)).await?;
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    async fn send_all(&mut self, events: Vec<Bytes>) -> Result<(), Failure> {
        for batch in events.chunks(self.args.batch.max(1)) {
            self.send(batch.to_vec()).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: Vec<Bytes>) -> Result<(), Failure> {
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
