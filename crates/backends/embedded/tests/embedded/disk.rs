//! A full disk, a folder that is in use, damaged files.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use synapse_hub_core::{
    Code, Event, PartitionId, Position, Result, Timestamp, TopicSettings,
    backend::{Append, Appended, Backend as _, EventLog, GapReason, ReadItem, ReadLimits},
};
use synapse_hub_embedded::{Embedded, EmbeddedOptions};

const PATIENCE: Duration = Duration::from_secs(60);

fn event(number: usize, size: usize) -> Event {
    let mut event = Event::new("tick", format!(r#"{{"text":"{}"}}"#, "x".repeat(size)));
    event.set_id(format!("{number}")).set_source("disk").set_time(Timestamp::from_nanos(1));
    event
}

async fn open_log(backend: &Embedded) -> Arc<dyn EventLog> {
    backend.open(&PartitionId::new("disk".parse().unwrap(), 0), &TopicSettings::default()).await.unwrap()
}

async fn store(log: &dyn EventLog, number: usize, size: usize) -> Result<Appended> {
    let appending = async { log.append(Append::new(vec![event(number, size)])).await?.await };
    tokio::time::timeout(PATIENCE, appending).await.expect("an append hangs")
}

async fn items(log: &dyn EventLog, after: Position, until: Position) -> Vec<ReadItem> {
    let reading = log.read(after, Some(until), ReadLimits::default()).map(Result::unwrap).collect();
    tokio::time::timeout(PATIENCE, reading).await.expect("a read hangs")
}

async fn numbers(log: &dyn EventLog) -> Vec<usize> {
    let end = log.bounds().await.unwrap().end;
    let mut numbers = Vec::new();
    for item in items(log, Position::START, end).await {
        let ReadItem::Batch(records) = item else { panic!("nothing is gone, and yet came {item:?}") };
        numbers.extend(records.iter().map(|record| record.event.id().parse::<usize>().unwrap()));
    }
    numbers
}

/// Appends until it succeeds again.
async fn heal(log: &dyn EventLog, number: usize) -> Position {
    let healing = async {
        loop {
            match store(log, number, 300).await {
                Ok(appended) => return appended.positions[0],
                Err(error) => assert!(error.retryable(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, healing).await.expect("writing does not heal")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_hub_is_told_which_folder_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("synapse-data");
    let first = Embedded::open(&path, EmbeddedOptions::default()).unwrap();
    let error = Embedded::open(&path, EmbeddedOptions::default()).err().expect("two hubs have one folder");
    assert_eq!(error.code(), Code::StorageLocked);
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    // The first is not disturbed, and leaves the folder to the next.
    let log = open_log(&first).await;
    store(&*log, 0, 300).await.unwrap();
    first.shutdown(PATIENCE).await;
    let next = Embedded::open(&path, EmbeddedOptions::default()).unwrap();
    assert_eq!(numbers(&*open_log(&next).await).await, [0]);
}

/// A folder whose file system few others write to, so that its free space stays as it is.
fn quiet_folder() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() }.unwrap()
}

#[allow(unsafe_code)]
fn free_bytes(folder: &Path) -> u64 {
    let path = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    // SAFETY: the path is a C string, and all bytes zero is a valid `statvfs`.
    let stats = unsafe {
        let mut stats: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(path.as_ptr(), &raw mut stats), 0);
        stats
    };
    stats.f_bavail as u64 * stats.f_frsize as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_little_room_appends_are_refused_reading_goes_on_and_writing_heals() {
    let folder = quiet_folder();
    let free_bytes_min = free_bytes(folder.path()) - (96 << 20);
    let options = EmbeddedOptions { free_bytes_min, ..EmbeddedOptions::default() };
    let backend = Embedded::open(folder.path(), options).unwrap();
    let log = open_log(&backend).await;
    let mut tail = log.read(Position::START, None, ReadLimits::default());
    store(&*log, 0, 300).await.unwrap();
    assert!(backend.health().await.writable);

    let filler = folder.path().with_extension("filler");
    std::fs::write(&filler, vec![1; 128 << 20]).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for number in 1..20 {
        let error = store(&*log, number, 300).await.expect_err("there is too little room");
        assert_eq!(error.code(), Code::StorageFull, "{error}");
        assert!(error.retryable() && error.message().contains(folder.path().to_str().unwrap()), "{error}");
    }
    let health = backend.health().await;
    assert!(health.readable && !health.writable && !health.notes.is_empty(), "{health:?}");
    assert_eq!(numbers(&*log).await, [0]);

    std::fs::remove_file(&filler).unwrap();
    let position = heal(&*log, 20).await;
    assert_eq!(numbers(&*log).await, [0, 20]);
    assert!(backend.health().await.writable);
    // A reader that was there all the time gets both.
    let mut seen = Vec::new();
    while seen.last() != Some(&position) {
        match tokio::time::timeout(PATIENCE, tail.next()).await.expect("the tail hangs").unwrap().unwrap() {
            ReadItem::Batch(records) => seen.extend(records.iter().map(|record| record.position)),
            ReadItem::Gap(gap) => panic!("nothing is gone, and yet came {gap:?}"),
        }
    }
    assert_eq!(seen, [Position::offset(1), position]);
}

const LIMITED: &str = "SYNAPSE_TEST_LIMITED_FOLDER";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_write_reading_goes_on_and_writing_heals() {
    let folder = tempfile::tempdir().unwrap();
    // The kernel refuses writes to files over a limit, for a whole process: the log has one for itself.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "disk::writes_that_fail", "--ignored", "--nocapture", "--test-threads=1"])
        .env(LIMITED, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&child.stderr));
    // And whatever it acknowledged is there for the next hub.
    let backend = Embedded::open(folder.path(), EmbeddedOptions::default()).unwrap();
    let found = numbers(&*open_log(&backend).await).await;
    assert!(found.len() > 100 && found.is_sorted(), "{} events", found.len());
}

/// Sets how large a file may become.
#[allow(unsafe_code)]
fn limit_file_size(bytes: Option<u64>) {
    // SAFETY: the limits are plain data, and the signal is ignored so that the write fails instead.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes.map_or(limit.rlim_max, |bytes| bytes as libc::rlim_t);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test, in a process of its own"]
async fn writes_that_fail() {
    let folder = PathBuf::from(std::env::var(LIMITED).unwrap());
    let backend = Embedded::open(&folder, EmbeddedOptions { free_bytes_min: 0, ..EmbeddedOptions::default() }).unwrap();
    let log = open_log(&backend).await;
    let mut acknowledged = Vec::new();
    let mut next = 0;
    for round in 0..3 {
        for _ in 0..50 {
            store(&*log, next, 1000).await.unwrap();
            acknowledged.push(next);
            next += 1;
        }
        // From here on hardly anything can be written, neither by appends nor by what the engine does for itself.
        limit_file_size(Some(64 << 10));
        let mut refused = 0;
        while refused < 5 {
            match store(&*log, next, 20_000).await {
                Ok(_) => acknowledged.push(next),
                Err(error) => {
                    assert_eq!(error.code(), Code::StorageFull, "{error}");
                    refused += 1;
                }
            }
            next += 1;
            assert!(next < 10_000, "writes go on in spite of the limit");
        }
        assert!(!backend.health().await.writable);
        assert!(acknowledged.iter().eq(&numbers(&*log).await), "round {round}: what was acknowledged is not there");
        limit_file_size(None);
        heal(&*log, next).await;
        acknowledged.push(next);
        next += 1;
        // What was refused may have been stored all the same, but nothing is there twice and nothing is missing.
        let found = numbers(&*log).await;
        assert!(found.is_sorted_by(|a, b| a < b), "round {round}: {found:?}");
        assert!(acknowledged.iter().all(|number| found.binary_search(number).is_ok()), "round {round}");
        acknowledged = found;
    }
    backend.shutdown(PATIENCE).await;
}

/// All tables of the log, the largest first.
fn tables(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.path().parent().is_some_and(|parent| parent.ends_with("tables")) {
                found.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_batches_are_gaps_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let options = || EmbeddedOptions { memtable_bytes: 1 << 20, ..EmbeddedOptions::default() };
    let backend = Embedded::open(folder.path(), options()).unwrap();
    let log = open_log(&backend).await;
    for number in 0..2000 {
        // The last one, which is waited for, is stored after all of these.
        drop(log.append(Append::new(vec![event(number, 5000)])).await.unwrap());
    }
    let end = store(&*log, 2000, 5000).await.unwrap().positions[0];
    drop(log);
    backend.shutdown(PATIENCE).await;
    drop(backend);

    let table = tables(folder.path()).remove(0);
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3].fill(0xAA);
    std::fs::write(&table, bytes).unwrap();

    let backend = Embedded::open(folder.path(), options()).unwrap();
    let log = open_log(&backend).await;
    let (mut seen, mut lost) = (0, 0);
    let mut after = Position::START;
    for item in items(&*log, Position::START, end).await {
        match item {
            ReadItem::Batch(records) => {
                assert_eq!(records[0].position, Position::offset(after.major() + 1));
                seen += records.len() as u64;
                after = records.last().unwrap().position;
            }
            ReadItem::Gap(gap) => {
                assert_eq!((gap.reason, gap.after), (GapReason::Unreadable, after), "{gap:?}");
                lost += gap.lost.unwrap();
                after = gap.resume;
            }
        }
    }
    assert_eq!(after, end);
    assert_eq!(seen + lost, 2001);
    assert!((1..10).contains(&lost), "{lost} events are lost");
    // The damage does not stop what is new.
    let position = store(&*log, 2001, 300).await.unwrap().positions[0];
    assert_eq!(items(&*log, end, position).await.len(), 1);
}
