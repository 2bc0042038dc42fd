//! The storage engine under the log: keyspaces, keys, errors, and opening it again after it failed.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `log` | topic id, partition, first offset | stored time, number of events, record batch |
//! | `state` | topic id, partition | [`PartitionState`] |
//! | `producers` | topic id, partition, producer, sequence | first offset, number of events, time |
//! | `dedup` | topic id, partition, `source`, `id` | offset, expiry |
//! | `expiry` | topic id, partition, expiry, `source`, `id` | nothing |
//! | `catalog` | topic name | topic id |
//! | `meta` | see `meta.rs` | |

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, config::CompressionPolicy};
use parking_lot::RwLock;
use synapse_hub_core::{Code, Error, Result};

use crate::EmbeddedOptions;

/// How long opening again waits for readers to let go of the failed engine.
const LET_GO: Duration = Duration::from_secs(5);

/// An open engine.
pub(crate) struct Engine {
    pub(crate) database: Database,
    pub(crate) log: Keyspace,
    pub(crate) state: Keyspace,
    pub(crate) producers: Keyspace,
    pub(crate) dedup: Keyspace,
    pub(crate) expiry: Keyspace,
    pub(crate) catalog: Keyspace,
    pub(crate) meta: Keyspace,
}

impl Engine {
    fn open(folder: &Path, options: &EmbeddedOptions) -> Result<Self> {
        let database = Database::builder(folder)
            .cache_size(options.cache_bytes)
            .journal_compression(CompressionType::None)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()
            .map_err(|error| open_error(folder, error))?;
        let keyspace = |name: &str, memtable_bytes: u64| {
            let create = || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(memtable_bytes)
                    .data_block_compression_policy(CompressionPolicy::disabled())
            };
            database.keyspace(name, create).map_err(failed)
        };
        let small = 1 << 20;
        Ok(Self {
            log: keyspace("log", options.memtable_bytes)?,
            state: keyspace("state", small)?,
            producers: keyspace("producers", small)?,
            dedup: keyspace("dedup", small)?,
            expiry: keyspace("expiry", small)?,
            catalog: keyspace("catalog", small)?,
            meta: keyspace("meta", small)?,
            database,
        })
    }

    pub(crate) fn persist(&self, mode: PersistMode) -> Result<()> {
        self.database.persist(mode).map_err(failed)
    }
}

/// The engine, which is replaced when it has failed.
pub(crate) struct Store {
    folder: PathBuf,
    pub(crate) options: EmbeddedOptions,
    engine: RwLock<Option<Arc<Engine>>>,
}

impl Store {
    pub(crate) fn open(folder: &Path, options: EmbeddedOptions) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| {
            let what =
                format!("cannot make the folder {}: {error}; choose another or grant the rights", folder.display());
            Error::new(Code::InvalidConfig, what).caused_by(error)
        })?;
        let engine = Engine::open(folder, &options)?;
        Ok(Self { folder: folder.to_owned(), options, engine: RwLock::new(Some(Arc::new(engine))) })
    }

    /// The engine. Let go of it soon: it cannot be opened again before.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.read().clone().ok_or_else(|| {
            Error::new(Code::StorageFull, "the embedded log is being opened again after a failed write; try again soon")
                .retry_after(Duration::from_millis(500))
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes the engine, and opens it again from what is on the disk.
    pub(crate) fn reopen(&self) -> Result<()> {
        self.close();
        let engine = Engine::open(&self.folder, &self.options)?;
        *self.engine.write() = Some(Arc::new(engine));
        Ok(())
    }

    /// Lets go of the files.
    pub(crate) fn close(&self) {
        let Some(mut engine) = self.engine.write().take() else { return };
        let deadline = Instant::now() + LET_GO;
        while let Err(shared) = Arc::try_unwrap(engine) {
            if Instant::now() > deadline {
                return;
            }
            engine = shared;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many bytes are free on the disk, where that can be told.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.folder)
    }
}

#[allow(unsafe_code)]
fn free_bytes(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string that outlives the call, and `stats` is read only when the call filled it in.
    let stats = unsafe {
        if libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) != 0 {
            return None;
        }
        stats.assume_init()
    };
    #[allow(clippy::unnecessary_cast)] // The width differs between systems.
    Some(stats.f_bavail as u64 * stats.f_frsize as u64)
}

fn open_error(folder: &Path, error: fjall::Error) -> Error {
    match error {
        fjall::Error::Locked => Error::new(
            Code::StorageLocked,
            format!(
                "another hub has the folder {} open; stop it, or give this one a folder of its own (`--backend embedded:OTHER`)",
                folder.display()
            ),
        ),
        fjall::Error::Io(io) if io.raw_os_error() == Some(libc::ENOSPC) => full(folder),
        error => {
            Error::new(Code::StorageCorrupt, format!("cannot open the embedded log in {}: {error}", folder.display()))
        }
    }
}

pub(crate) fn full(folder: &Path) -> Error {
    let what = format!(
        "the disk under {} is full; free some space or trim topics, reading goes on meanwhile",
        folder.display()
    );
    Error::new(Code::StorageFull, what).retry_after(Duration::from_secs(1))
}

/// An error of the engine as an error of ours.
pub(crate) fn failed(error: fjall::Error) -> Error {
    match &error {
        fjall::Error::Io(io) if matches!(io.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)) => {
            Error::new(Code::StorageFull, "the disk under the embedded log is full; free some space or trim topics")
                .retry_after(Duration::from_secs(1))
        }
        fjall::Error::Poisoned => Error::new(
            Code::StorageFull,
            "an earlier write to the embedded log failed; it is opened again, try again soon",
        )
        .retry_after(Duration::from_secs(1)),
        _ => Error::new(Code::StorageCorrupt, format!("the embedded log failed: {error}")),
    }
}

/// What is known of a partition, written with every change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartitionState {
    /// The largest offset given.
    pub(crate) last: u64,
    /// Offsets up to here are gone.
    pub(crate) low: u64,
    /// Offsets up to here may have been given by a hub that died: they are not given again.
    pub(crate) reserved: u64,
    /// Offsets were skipped before this one, for the last time.
    pub(crate) jumped: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    /// When the latest batch was stored.
    pub(crate) stored_nanos: i64,
    /// Whether the hub stopped in an orderly way after this.
    pub(crate) clean: bool,
}

impl PartitionState {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(57);
        for value in [self.last, self.low, self.reserved, self.jumped, self.events, self.bytes] {
            out.put_u64(value);
        }
        out.put_i64(self.stored_nanos);
        out.put_u8(u8::from(self.clean));
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| Some(u64::from_be_bytes(bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?));
        Some(Self {
            last: word(0)?,
            low: word(1)?,
            reserved: word(2)?,
            jumped: word(3)?,
            events: word(4)?,
            bytes: word(5)?,
            stored_nanos: word(6)? as i64,
            clean: *bytes.get(56)? == 1,
        })
    }
}

/// The prefix of all keys of a partition.
pub(crate) fn partition_key(topic: u64, partition: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&topic.to_be_bytes());
    key[8..].copy_from_slice(&partition.to_be_bytes());
    key
}

/// The key of the batch that starts at `offset`.
pub(crate) fn batch_key(partition: &[u8; 12], offset: u64) -> [u8; 20] {
    let mut key = [0; 20];
    key[..12].copy_from_slice(partition);
    key[12..].copy_from_slice(&offset.to_be_bytes());
    key
}

/// The offset in a batch's key.
pub(crate) fn offset_of(key: &[u8]) -> u64 {
    key.get(12..20).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Bytes before the record batch in a value of `log`.
pub(crate) const BATCH_HEADER_BYTES: usize = 12;

/// What stands before a record batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchHeader {
    pub(crate) stored_nanos: i64,
    pub(crate) events: u32,
}

impl BatchHeader {
    pub(crate) fn decode(value: &[u8]) -> Self {
        let nanos = value.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes);
        let events = value.get(8..12).and_then(|bytes| bytes.try_into().ok()).map_or(1, u32::from_be_bytes);
        Self { stored_nanos: nanos, events }
    }

    pub(crate) fn encode(self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        out[..8].copy_from_slice(&self.stored_nanos.to_be_bytes());
        out[8..].copy_from_slice(&self.events.to_be_bytes());
        out
    }
}
