//! The storage engine under the log: opening it, its errors, and opening it again after it failed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fjall::{
    AbstractTree as _, CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch,
    PersistMode, config::CompressionPolicy,
};
use parking_lot::RwLock;
use synapse_hub_core::{Code, Error, Result};

use crate::{
    EmbeddedOptions,
    keys::{FORMAT, FORMAT_VERSION, word},
    log::stopping,
};

/// How long opening again waits for readers to let go of the failed engine.
const LET_GO: Duration = Duration::from_secs(5);
/// The least that the engine takes as the size of its journals.
const JOURNAL_BYTES_MIN: u64 = 64 << 20;
/// The size of write buffers for what is small.
const SMALL_MEMTABLE_BYTES: u64 = 1 << 20;
/// How many full write buffers may wait for being flushed, and runs of tables for being merged. The engine itself stalls
/// at one more and two more, and would do so for ever once its worker has failed.
const SEALED_MEMTABLES_MAX: usize = 3;
const L0_RUNS_MAX: usize = 28;
const STALL_STEP: Duration = Duration::from_millis(2);
/// What is written to find out whether the disk takes anything.
const PROBE_BYTES: usize = 1 << 20;

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
    /// Makes every write wait.
    #[cfg(test)]
    pub(crate) stalled: AtomicBool,
}

impl Engine {
    fn open(folder: &Path, options: &EmbeddedOptions) -> Result<Self> {
        let database = Database::builder(folder)
            .cache_size(options.cache_bytes)
            .journal_compression(CompressionType::None)
            .max_journaling_size(options.journal_bytes_max.max(JOURNAL_BYTES_MIN))
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
        let engine = Self {
            log: keyspace("log", options.memtable_bytes)?,
            state: keyspace("state", SMALL_MEMTABLE_BYTES)?,
            producers: keyspace("producers", SMALL_MEMTABLE_BYTES)?,
            dedup: keyspace("dedup", SMALL_MEMTABLE_BYTES)?,
            expiry: keyspace("expiry", SMALL_MEMTABLE_BYTES)?,
            catalog: keyspace("catalog", SMALL_MEMTABLE_BYTES)?,
            meta: keyspace("meta", SMALL_MEMTABLE_BYTES)?,
            #[cfg(test)]
            stalled: AtomicBool::new(false),
            database,
        };
        engine.check_format(folder)?;
        Ok(engine)
    }

    fn check_format(&self, folder: &Path) -> Result<()> {
        match self.catalog.get(FORMAT).map_err(failed)? {
            Some(version) if word(&version, 0) == Some(FORMAT_VERSION) => Ok(()),
            Some(_) => Err(Error::new(
                Code::StorageCorrupt,
                format!("the log in {} was written by another version of Synapse; use that one", folder.display()),
            )),
            None => {
                let mut batch = self.database.batch();
                batch.insert(&self.catalog, FORMAT, FORMAT_VERSION.to_be_bytes().as_slice());
                self.commit(batch, Some(PersistMode::Buffer))
            }
        }
    }

    /// Writes a batch. Blocks while the engine has too much to do.
    pub(crate) fn commit(&self, batch: OwnedWriteBatch, persist: Option<PersistMode>) -> Result<()> {
        for keyspace in [&self.log, &self.state, &self.producers, &self.dedup, &self.expiry, &self.meta] {
            while self.stalls(keyspace) {
                // This fails once the engine's worker has failed, and so nothing will ever be flushed.
                self.database.persist(PersistMode::Buffer).map_err(failed)?;
                std::thread::sleep(STALL_STEP);
            }
        }
        batch.durability(persist).commit().map_err(failed)
    }

    fn stalls(&self, keyspace: &Keyspace) -> bool {
        #[cfg(test)]
        if self.stalled.load(Ordering::Acquire) {
            return true;
        }
        keyspace.sealed_memtable_count() >= SEALED_MEMTABLES_MAX || keyspace.tree.l0_run_count() >= L0_RUNS_MAX
    }

    /// Whether the engine has failed: it reads, but will never write again.
    pub(crate) fn has_failed(&self) -> bool {
        self.database.persist(PersistMode::Buffer).is_err()
    }
}

/// The engine, which is replaced when it has failed.
pub(crate) struct Store {
    folder: PathBuf,
    pub(crate) options: EmbeddedOptions,
    engine: RwLock<Option<Arc<Engine>>>,
    closed: AtomicBool,
}

impl Store {
    pub(crate) fn open(folder: &Path, options: EmbeddedOptions) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|error| {
            let what =
                format!("cannot make the folder {}: {error}; choose another or grant the rights", folder.display());
            Error::new(Code::InvalidConfig, what).caused_by(error)
        })?;
        let engine = RwLock::new(Some(Arc::new(Engine::open(folder, &options)?)));
        Ok(Self { folder: folder.to_owned(), options, engine, closed: AtomicBool::new(false) })
    }

    /// The engine. Let go of it soon: it cannot be opened again before.
    pub(crate) fn engine(&self) -> Result<Arc<Engine>> {
        if let Some(engine) = self.engine.read().clone() {
            return Ok(engine);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(stopping());
        }
        let what = "the embedded log is being opened again after a failed write; try again soon";
        Err(Error::new(Code::StorageFull, what).retry_after(Duration::from_millis(500)))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes the engine, and opens it again from what is on the disk. While the disk takes nothing the old one is kept,
    /// because it can still be read.
    pub(crate) fn reopen(&self) -> Result<()> {
        self.probe().map_err(|error| storage_error(&error))?;
        self.let_go();
        let engine = Engine::open(&self.folder, &self.options)?;
        *self.engine.write() = Some(Arc::new(engine));
        Ok(())
    }

    /// Lets go of the files, for good.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.let_go();
    }

    fn let_go(&self) {
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

    /// Finds out whether the disk takes something new.
    fn probe(&self) -> io::Result<()> {
        let path = self.folder.join("room.tmp");
        let written = std::fs::write(&path, vec![1; PROBE_BYTES]);
        // An empty file may be left, which does no harm.
        let _ = std::fs::remove_file(&path);
        written
    }

    /// Whether there is so much room on the disk that appends may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.options.free_bytes_min == 0 || self.free_bytes().is_none_or(|free| free >= self.options.free_bytes_min)
    }

    /// How many bytes are free on the disk, where that can be told.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.folder)
    }

    /// The error of an append for which there is no room.
    pub(crate) fn full(&self) -> Error {
        let what = format!(
            "the disk under {} is full; free some space or trim topics, reading goes on meanwhile",
            self.folder.display()
        );
        Error::new(Code::StorageFull, what).retry_after(Duration::from_secs(1))
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
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io)) => storage_error(&io),
        error => {
            Error::new(Code::StorageCorrupt, format!("cannot open the embedded log in {}: {error}", folder.display()))
        }
    }
}

/// An error of the engine as an error of ours: `storage_corrupt` when the data is damaged; all others can heal.
pub(crate) fn failed(error: fjall::Error) -> Error {
    match &error {
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io)) => storage_error(io),
        fjall::Error::Poisoned => Error::new(
            Code::StorageFull,
            "an earlier write to the embedded log failed; it is opened again, try again soon",
        )
        .retry_after(Duration::from_secs(1)),
        _ => Error::new(Code::StorageCorrupt, format!("the embedded log is damaged: {error}")),
    }
}

fn storage_error(error: &io::Error) -> Error {
    use io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, UnexpectedEof,
    };
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::new(
            Code::StorageFull,
            format!("the disk under the embedded log takes no more ({error}); free some space or trim topics"),
        )
        .retry_after(Duration::from_secs(1)),
        // A file is shorter than it was written.
        UnexpectedEof => Error::new(Code::StorageCorrupt, format!("the embedded log is damaged: {error}")),
        PermissionDenied | ReadOnlyFilesystem => {
            let what = format!("the embedded log may not be written: {error}; grant the rights");
            Error::new(Code::BackendReadonly, what)
        }
        _ => Error::new(Code::BackendUnavailable, format!("the disk under the embedded log failed: {error}"))
            .retry_after(Duration::from_secs(1)),
    }
}
