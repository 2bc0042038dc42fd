//! What Redis' errors mean, and what to do about them.

use synapse_hub_core::{Code, Error, Result};

use crate::resp::View;

/// The error that a reply `-CODE message` stands for.
pub(crate) fn from_redis(line: &[u8]) -> Error {
    let line = String::from_utf8_lossy(line);
    let (word, _) = line.split_once(' ').unwrap_or((&line, ""));
    let (code, advice) = meaning(word, &line);
    Error::new(code, format!("{advice}. Redis says: {}", line.trim_end_matches('.')))
}

fn meaning(word: &str, line: &str) -> (Code, &'static str) {
    match word {
        "OOM" => (
            Code::BackendOutOfMemory,
            "Redis is out of memory and takes no writes; raise its `maxmemory`, or trim topics and give them a retention",
        ),
        "READONLY" => (
            Code::BackendReadonly,
            "this Redis is a replica and takes no writes; use the address of the primary, or wait for the failover to end",
        ),
        "MISCONF" => (
            Code::BackendReadonly,
            "Redis takes no writes because it cannot save its data; free disk space and look into its log",
        ),
        "NOREPLICAS" => (
            Code::BackendReadonly,
            "Redis takes no writes because too few of its replicas are up; start them or lower `min-replicas-to-write`",
        ),
        "LOADING" => (Code::BackendLoading, "Redis is loading its data; wait"),
        "MASTERDOWN" => (Code::BackendLoading, "this replica has lost its primary and answers nothing; wait"),
        "WRONGTYPE" => (
            Code::BackendWrongType,
            "the topic's key holds something that is not a stream; choose another topic name, or delete the key",
        ),
        "NOAUTH" => (
            Code::BackendDenied,
            "Redis wants a password; put it into the address (redis://user:password@host) or into REDIS_PASSWORD",
        ),
        "WRONGPASS" => (Code::BackendDenied, "Redis knows no such user with this password; check both"),
        "NOPERM" => (
            Code::BackendDenied,
            "the Redis user lacks a right; allow it the topic's keys, the keys `synapse:*`, and this command",
        ),
        "NOSCRIPT" => {
            (Code::BackendError, "Redis has forgotten a script; this is a defect of Synapse, please report it")
        }
        "BUSY" => (Code::BackendUnavailable, "Redis is busy with somebody's script; end it with `SCRIPT KILL`"),
        "TRYAGAIN" | "CLUSTERDOWN" => (Code::BackendUnavailable, "the Redis Cluster is not able to answer now; wait"),
        "MOVED" | "ASK" | "CROSSSLOT" => {
            (Code::Unsupported, "this is a Redis Cluster, which Synapse does not use yet; use a single Redis")
        }
        "EXECABORT" => (Code::BackendError, "Redis refused the transaction as a whole; nothing was stored"),
        "ERR" if line.contains("max number of clients") => {
            (Code::BackendUnavailable, "Redis has no place for another connection; raise its `maxclients`")
        }
        "ERR" if line.contains("unknown command") => (
            Code::Unsupported,
            "this server lacks a command of Redis 7; use Redis 7 or later, and do not rename commands",
        ),
        "ERR" if line.contains("stream is exhausted") || line.contains("equal or smaller than the target stream") => (
            Code::BackendError,
            "the stream's last id is the largest possible, so nothing can be added; delete the stream or `XSETID` it",
        ),
        _ => (Code::BackendError, "Redis answered with an error"),
    }
}

/// The error that a reply is, if it is one. That there is no reply is one too.
pub(crate) fn refused(reply: Option<View<'_>>) -> Result<()> {
    match reply {
        Some(View::Error(text)) => Err(from_redis(text)),
        Some(_) => Ok(()),
        None => Err(unexpected("a request")),
    }
}

/// A reply that was not what the command answers with.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::new(
        Code::BackendError,
        format!("Redis answered {what} with something else; is this really Redis 7 or later?"),
    )
}

/// A connection that broke while a request was under way.
pub(crate) fn lost(why: &str) -> Error {
    Error::new(
        Code::BackendUnavailable,
        format!("the connection to Redis was lost ({why}); whether it acted is not known; try again"),
    )
}

/// The backend was told to stop.
pub(crate) fn shutting_down() -> Error {
    Error::new(Code::ShuttingDown, "the hub is stopping; try again at another one, or a little later")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_redis_has_its_code_and_says_what_to_do() {
        for (line, code) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", Code::BackendOutOfMemory),
            ("READONLY You can't write against a read only replica.", Code::BackendReadonly),
            ("MISCONF Redis is configured to save RDB snapshots", Code::BackendReadonly),
            ("NOREPLICAS Not enough good replicas to write.", Code::BackendReadonly),
            ("LOADING Redis is loading the dataset in memory", Code::BackendLoading),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", Code::BackendWrongType),
            ("NOAUTH Authentication required.", Code::BackendDenied),
            ("WRONGPASS invalid username-password pair or user is disabled.", Code::BackendDenied),
            ("NOPERM this user has no permissions to run the 'xadd' command", Code::BackendDenied),
            ("EXECABORT Transaction discarded because of previous errors.", Code::BackendError),
            ("BUSY Redis is busy running a script.", Code::BackendUnavailable),
            ("MOVED 3999 127.0.0.1:6381", Code::Unsupported),
            ("ERR max number of clients reached", Code::BackendUnavailable),
            ("ERR unknown command 'EVAL_RO', with args beginning with: ", Code::Unsupported),
            ("ERR something new", Code::BackendError),
        ] {
            let error = from_redis(line.as_bytes());
            assert_eq!(error.code(), code, "{line}");
            assert!(error.message().contains(line.trim_end_matches('.')), "{error}");
        }
    }
}
