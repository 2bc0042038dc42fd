//! Whether Redis can be used, and what it promises.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use synapse_hub_core::{
    Durability, Result, Timestamp,
    backend::{Guarantee, Health},
};

use crate::{
    Shared, errors,
    link::Request,
    resp::{self, Replies, View},
};

/// How long a question about the server's health may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// For how long what the server said of its durability is good.
const GUARANTEE_FRESH: Duration = Duration::from_secs(3);

/// What the server says of its durability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Persistence {
    appendonly: bool,
    /// When the append-only file is synced; `None` when the server does not say.
    appendfsync: Option<String>,
    at: Instant,
}

/// The persistence as it was last read.
pub(crate) type Known = Mutex<Option<Persistence>>;

/// What a level of durability means on this server, now.
pub(crate) async fn guarantee(shared: &Shared, asked: Durability) -> Result<Guarantee> {
    let fresh = shared.persistence.lock().clone().filter(|known| known.at.elapsed() < GUARANTEE_FRESH);
    let known = match fresh {
        Some(known) => known,
        None => {
            let known = ask_persistence(shared).await?;
            *shared.persistence.lock() = Some(known.clone());
            known
        }
    };
    Ok(known.guarantee(asked))
}

impl Persistence {
    fn guarantee(&self, asked: Durability) -> Guarantee {
        let synced = self.appendonly && self.appendfsync.as_deref() == Some("always");
        let level = if synced { asked } else { asked.min(Durability::Stored) };
        let text = match (self.appendonly, &self.appendfsync) {
            (false, _) => "redis appendonly=no".to_owned(),
            (true, Some(sync)) => format!("redis appendonly=yes appendfsync={sync}"),
            (true, None) => "redis appendonly=yes".to_owned(),
        };
        Guarantee { level, text }
    }
}

async fn ask_persistence(shared: &Shared) -> Result<Persistence> {
    let mut out = Vec::new();
    resp::command(&mut out, &[b"CONFIG", b"GET", b"append*"]);
    // Managed servers forbid CONFIG; INFO says less, but is allowed.
    resp::command(&mut out, &[b"INFO", b"persistence"]);
    let replies = shared.control.call(Request::new(out, 2, shared.options.response_timeout)).await?;
    let mut cursor = replies.cursor();
    let at = Instant::now();
    if let Some(count) = cursor.array() {
        let mut known = Persistence { appendonly: false, appendfsync: None, at };
        for _ in 0..count / 2 {
            match (cursor.bytes(), cursor.bytes()) {
                (Some(b"appendonly"), Some(value)) => known.appendonly = value == b"yes",
                (Some(b"appendfsync"), Some(value)) => {
                    known.appendfsync = Some(String::from_utf8_lossy(value).into_owned());
                }
                _ => {}
            }
        }
        return Ok(known);
    }
    cursor.next();
    match cursor.next() {
        Some(View::Bulk(text)) => {
            let info = String::from_utf8_lossy(text);
            Ok(Persistence { appendonly: field(&info, "aof_enabled") == Some("1"), appendfsync: None, at })
        }
        Some(View::Error(text)) => Err(errors::from_redis(text)),
        _ => Err(errors::unexpected("INFO")),
    }
}

/// Asks the server how it is.
pub(crate) async fn health(shared: &Shared) -> Health {
    let mut out = Vec::new();
    resp::command(&mut out, &[b"INFO"]);
    resp::command(&mut out, &[b"TIME"]);
    let request = Request::new(out, 2, shared.options.response_timeout.min(HEALTH_TIMEOUT));
    let mut health =
        Health { reconnects: shared.outage.reconnects(), errors: shared.outage.errors(), ..Health::default() };
    match tokio::time::timeout(HEALTH_TIMEOUT, shared.control.call(request)).await {
        Ok(Ok(replies)) => describe(&replies, &mut health),
        Ok(Err(error)) => health.notes.push(error.message().to_owned()),
        Err(_) => {
            let why = shared.outage.latest();
            health
                .notes
                .push(why.map_or_else(|| "Redis does not answer".to_owned(), |error| error.message().to_owned()));
        }
    }
    if let Some(error) = shared.outage.latest().filter(|_| health.notes.is_empty() && !health.readable) {
        health.notes.push(error.message().to_owned());
    }
    health
}

fn describe(replies: &Replies, health: &mut Health) {
    let mut cursor = replies.cursor();
    match cursor.next() {
        Some(View::Bulk(text)) => describe_info(&String::from_utf8_lossy(text), health),
        Some(View::Error(text)) => {
            let error = errors::from_redis(text);
            // A user without the right to INFO can still read and write.
            (health.readable, health.writable) = (text.starts_with(b"NOPERM"), text.starts_with(b"NOPERM"));
            health.notes.push(error.message().to_owned());
        }
        _ => health.notes.push("Redis answers INFO with something else".to_owned()),
    }
    if cursor.array() == Some(2)
        && let (Some(seconds), Some(micros)) =
            (cursor.next().and_then(View::number), cursor.next().and_then(View::number))
    {
        let nanos = seconds.saturating_mul(1_000_000_000).saturating_add(micros.saturating_mul(1000));
        health.time = i64::try_from(nanos).ok().map(Timestamp::from_nanos);
    }
}

fn describe_info(info: &str, health: &mut Health) {
    health.version = field(info, "redis_version").map(str::to_owned);
    let loading = field(info, "loading") == Some("1");
    let replica = field(info, "role") == Some("slave");
    health.readable = !loading;
    health.writable = !loading && !replica;
    let mut note = |text: String| health.notes.push(text);
    if loading {
        note("Redis is loading its data; wait".to_owned());
    }
    if replica {
        note("this Redis is a replica: events can be read and not published".to_owned());
    }
    let number = |name: &str| field(info, name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
    let (used, limit) = (number("used_memory"), number("maxmemory"));
    let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
    if limit > 0 && policy.starts_with("allkeys") {
        note(format!("Redis deletes whole topics when its memory is full (maxmemory-policy={policy}); use noeviction"));
    } else if limit > 0 && used >= limit {
        health.writable = false;
        note(format!("Redis is out of memory ({used} of {limit} bytes); raise `maxmemory` or trim topics"));
    } else if limit > 0 && used / 10 >= limit / 11 {
        note(format!("Redis is nearly out of memory ({used} of {limit} bytes)"));
    }
    if field(info, "rdb_last_bgsave_status") == Some("err") || field(info, "aof_last_write_status") == Some("err") {
        note("Redis could not save its data lately; it may refuse writes; look into its log".to_owned());
    }
}

/// A line `name:value` of what INFO says.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_syncs_every_write_gives_the_level_synced() {
        for (appendonly, appendfsync, level, text) in [
            (true, Some("always"), Durability::Synced, "redis appendonly=yes appendfsync=always"),
            (true, Some("everysec"), Durability::Stored, "redis appendonly=yes appendfsync=everysec"),
            (false, Some("always"), Durability::Stored, "redis appendonly=no"),
            (true, None, Durability::Stored, "redis appendonly=yes"),
        ] {
            let appendfsync = appendfsync.map(str::to_owned);
            let known = Persistence { appendonly, appendfsync, at: Instant::now() };
            assert_eq!(known.guarantee(Durability::Synced), Guarantee { level, text: text.to_owned() });
            assert_eq!(known.guarantee(Durability::Memory).level, Durability::Memory);
        }
    }

    #[test]
    fn what_info_says_becomes_notes() {
        let of = |info: &str| {
            let mut health = Health::default();
            describe_info(info, &mut health);
            health
        };
        let fine = of("redis_version:7.0.15\r\nloading:0\r\nrole:master\r\nmaxmemory:0\r\n");
        assert!(fine.readable && fine.writable && fine.notes.is_empty(), "{fine:?}");
        assert_eq!(fine.version.as_deref(), Some("7.0.15"));
        assert!(!of("loading:1\r\n").readable);
        assert!(!of("role:slave\r\n").writable);
        assert!(!of("used_memory:10\r\nmaxmemory:10\r\nmaxmemory_policy:noeviction\r\n").writable);
        assert_eq!(of("used_memory:1\r\nmaxmemory:10\r\nmaxmemory_policy:allkeys-lru\r\n").notes.len(), 1);
    }
}
