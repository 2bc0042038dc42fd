//! The scripts that run within Redis.
//!
//! They are sent whole each time rather than by their hash: a script that Redis had forgotten (`SCRIPT FLUSH`, a failover)
//! would otherwise fail after the entries of its transaction were added. Comments are left out on the way; Redis hashes
//! what remains in about two microseconds, and compiles it once.

use std::sync::LazyLock;

use crate::resp;

/// A script, ready to be sent.
pub(crate) struct Script {
    text: String,
    command: &'static str,
}

impl Script {
    fn new(command: &'static str, parts: &[&str]) -> Self {
        let lines = parts.iter().flat_map(|part| part.lines()).map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("--")).collect();
        Self { text: lines.join("\n"), command }
    }

    /// Appends the head of a call. So many keys and other arguments must follow.
    pub(crate) fn call(&self, out: &mut Vec<u8>, keys: usize, arguments: usize) {
        resp::array(out, 3 + keys + arguments);
        resp::bulk(out, self.command.as_bytes());
        resp::bulk(out, self.text.as_bytes());
        resp::bulk_display(out, keys);
    }

    /// Appends a whole call.
    pub(crate) fn write(&self, out: &mut Vec<u8>, keys: &[&[u8]], arguments: &[&[u8]]) {
        self.call(out, keys.len(), arguments.len());
        for argument in keys.iter().chain(arguments) {
            resp::bulk(out, argument);
        }
    }
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $command:literal, $($file:literal),+;)*) => {
        $($(#[$doc])* pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($command, &[$(include_str!($file)),+]));)*
    };
}

scripts! {
    /// Ends the transaction that adds a producer's batch.
    FINISH = "EVAL", "producer.lua", "finish.lua";
    /// Appends a small batch of a producer.
    APPEND = "EVAL", "producer.lua", "append.lua";
    /// Appends a batch within a deduplication window.
    DEDUP = "EVAL", "producer.lua", "dedup.lua";
    /// What streams hold.
    SNAPSHOT = "EVAL_RO", "snapshot.lua";
    /// Removes the oldest entries.
    TRIM = "EVAL", "trim.lua";
    /// Writes or deletes a document if it is as expected.
    META_CHANGE = "EVAL", "meta_change.lua";
    /// All documents with a prefix.
    META_LIST = "EVAL_RO", "meta_list.lua";
    /// Takes or renews a lease.
    LEASE = "EVAL", "lease.lua";
    /// Gives a lease back.
    RELEASE = "EVAL", "release.lua";
}
