//! What was acknowledged survives `kill -9`, at any moment, exactly once.
//!
//! The writer is this test binary itself, started again in a process of its own. It prints every acknowledgement that it
//! gets, and is killed while it works.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use synapse_hub_core::{
    Durability, Event, PartitionId, Position, Timestamp, TopicSettings,
    backend::{Append, Backend as _, ProducerBatch, ReadItem, ReadLimits, Trim},
};
use synapse_hub_embedded::{Embedded, EmbeddedOptions};

const FOLDER: &str = "SYNAPSE_TEST_KILL_FOLDER";
const ROUND: &str = "SYNAPSE_TEST_KILL_ROUND";
const PARTITIONS: u32 = 3;

fn partition(number: u32) -> PartitionId {
    PartitionId::new("killed".parse().unwrap(), number)
}

fn options() -> EmbeddedOptions {
    // Small buffers, so that flushes, merges and new journals are met too.
    EmbeddedOptions { memtable_bytes: 1 << 20, free_bytes_min: 0, ..EmbeddedOptions::default() }
}

fn event(id: &str, size: usize) -> Event {
    let mut event = Event::new("tick", format!(r#"{{"text":"{}"}}"#, "x".repeat(size)));
    event.set_id(id).set_source("kill").set_time(Timestamp::from_nanos(1));
    event
}

/// Appends to all partitions until it is killed, and prints `partition id position` for each acknowledged event.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test, in a process of its own"]
async fn writer() {
    let backend = Embedded::open(Path::new(&std::env::var(FOLDER).unwrap()), options()).unwrap();
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let backend = std::sync::Arc::new(backend);
    let tasks = (0..PARTITIONS).map(|number| {
        let backend = backend.clone();
        tokio::spawn(async move {
            let log = backend.open(&partition(number), &TopicSettings::default()).await.unwrap();
            for batch in 0_u64.. {
                let ids: Vec<_> =
                    (0..1 + batch % 40).map(|index| format!("{round}-{number}-{batch}-{index}")).collect();
                let events = ids.iter().map(|id| event(id, 300)).collect();
                let durability = [Durability::Stored, Durability::Stored, Durability::Memory, Durability::Synced]
                    [usize::from(batch % 50 == 0) + 2 * usize::from(batch % 7 == 0)];
                let producer = Some(ProducerBatch { id: format!("p{number}").into(), sequence: round << 32 | batch });
                let append = Append { durability, producer, ..Append::new(events) };
                let appended = log.append(append).await.unwrap().await.unwrap();
                assert!(!appended.duplicate);
                if durability == Durability::Memory {
                    continue;
                }
                let mut lines = String::new();
                for (id, position) in ids.iter().zip(appended.positions) {
                    lines.push_str(&format!("ack {number} {id} {position}\n"));
                }
                std::io::stdout().lock().write_all(lines.as_bytes()).unwrap();
                if batch % 100 == 99 {
                    log.trim(Trim { events_max: Some(1_000_000), ..Trim::default() }).await.unwrap();
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn start_writer(folder: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::writer", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The acknowledgements that a writer printed, whole lines only.
fn acknowledged(child: &mut Child, kill_after: Duration) -> Vec<(u32, String, Position)> {
    let stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            if let Some(rest) = line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix('\n')) {
                let fields: Vec<_> = rest.split(' ').collect();
                acknowledged.push((fields[0].parse().unwrap(), fields[1].to_owned(), fields[2].parse().unwrap()));
            }
            line.clear();
        }
        acknowledged
    });
    std::thread::sleep(kill_after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

async fn contents(backend: &Embedded, number: u32) -> BTreeMap<String, Position> {
    let log = backend.open(&partition(number), &TopicSettings::default()).await.unwrap();
    let end = log.bounds().await.unwrap().end;
    let mut items = log.read(Position::START, Some(end), ReadLimits::default());
    let (mut found, mut last) = (BTreeMap::new(), Position::START);
    while let Some(item) = items.next().await {
        let ReadItem::Batch(records) = item.unwrap() else { panic!("a gap in what was never trimmed") };
        for record in records {
            assert!(record.position > last);
            last = record.position;
            let before = found.insert(record.event.id().to_string(), record.position);
            assert_eq!(before, None, "event {} is there twice", record.event.id());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_survive_kill_9_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<BTreeMap<String, Position>> = vec![BTreeMap::new(); PARTITIONS as usize];
    let mut positions: Vec<BTreeSet<Position>> = vec![BTreeSet::new(); PARTITIONS as usize];
    let started = Instant::now();
    for round in 0..9_u64 {
        let mut child = start_writer(folder.path(), round);
        // Moments that differ from round to round and from run to run.
        let jitter = u64::from(started.elapsed().subsec_nanos()) % 400;
        for (number, id, position) in acknowledged(&mut child, Duration::from_millis(250 + round * 40 + jitter)) {
            assert!(positions[number as usize].insert(position), "{position} was given twice");
            all[number as usize].insert(id, position);
        }
        if round % 3 == 1 {
            // In some rounds the next writer finds what the killed one left, without this look in between.
            continue;
        }
        let backend = Embedded::open(folder.path(), options()).unwrap();
        for (number, acknowledged) in all.iter().enumerate() {
            let found = contents(&backend, number as u32).await;
            for (id, position) in acknowledged {
                assert_eq!(found.get(id), Some(position), "event {id} was acknowledged");
            }
        }
        backend.shutdown(Duration::from_secs(30)).await;
    }
    let events: usize = all.iter().map(BTreeMap::len).sum();
    assert!(events > 1000, "only {events} events were acknowledged");
}
