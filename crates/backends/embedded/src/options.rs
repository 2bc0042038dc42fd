//! How an embedded log behaves.

/// Options with their defaults. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How much accepted but unwritten data is held before appends wait.
    pub append_bytes_max: usize,
    /// The most that one write gathers.
    pub write_bytes_max: usize,
    /// How much of each open partition's latest events is kept decoded for tail readers.
    pub recent_bytes: usize,
    /// How much of the latest events of all partitions together is kept decoded.
    pub recent_bytes_total: usize,
    /// The block cache of the storage engine.
    pub cache_bytes: u64,
    /// The size at which the engine's write buffer is flushed to a table.
    pub memtable_bytes: u64,
    /// The size at which the engine's journals are cut short, at least 64 MiB. A start after a crash reads them all.
    pub journal_bytes_max: u64,
    /// Compress stored batches with this zstd level; `None` stores them as they are.
    pub zstd_level: Option<i32>,
    /// Appends are refused with `storage_full` when less than this is free on the disk, so that reading, trimming and
    /// a clean stop still have room.
    pub free_bytes_min: u64,
    /// The largest event.
    pub event_bytes_max: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            append_bytes_max: 64 << 20,
            write_bytes_max: 8 << 20,
            recent_bytes: 4 << 20,
            recent_bytes_total: 32 << 20,
            cache_bytes: 8 << 20,
            memtable_bytes: 16 << 20,
            journal_bytes_max: 192 << 20,
            zstd_level: None,
            free_bytes_min: 128 << 20,
            event_bytes_max: 64 << 20,
        }
    }
}
