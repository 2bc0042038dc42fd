//! Where events are kept, as one text: `embedded:PATH`, `redis://…`, `memory:`.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use synapse_hub_core::{Code, Error, Result};

/// The address of a backend.
///
/// Shown, logged and serialized without its password; [`BackendUrl::redis_url`] is the only way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendUrl(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Memory,
    Embedded(PathBuf),
    Redis(String),
}

impl BackendUrl {
    /// The folder of an embedded log.
    pub fn embedded_path(&self) -> Option<&std::path::Path> {
        match &self.0 {
            Kind::Embedded(path) => Some(path),
            _ => None,
        }
    }

    /// The address of a Redis server, with its password.
    pub fn redis_url(&self) -> Option<&str> {
        match &self.0 {
            Kind::Redis(url) => Some(url),
            _ => None,
        }
    }

    /// An embedded log in this folder.
    pub fn embedded(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Embedded(path.into()))
    }

    /// The hub's own memory.
    pub fn memory() -> Self {
        Self(Kind::Memory)
    }
}

impl FromStr for BackendUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |what: String| Err(Error::new(Code::InvalidConfig, what).field("backend"));
        // What follows the scheme is not shown: it may hold a password.
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self(Kind::Memory)),
            Some(("memory", _)) => invalid("`memory:` takes nothing after the colon".into()),
            Some(("embedded", "")) => invalid("`embedded:` needs a folder, such as embedded:./synapse-data".into()),
            Some(("embedded", path)) => Ok(Self(Kind::Embedded(path.into()))),
            Some(("redis" | "rediss" | "redis+unix", _)) => {
                let checked = text.parse::<synapse_hub_redis::Address>().map_err(|error| error.field("backend"));
                checked.map(|_| Self(Kind::Redis(text.to_owned())))
            }
            Some((scheme @ ("redis-sentinel" | "redis-cluster" | "kafka"), _)) => {
                let what =
                    format!("`{scheme}:` is not supported yet; use `embedded:`, `redis:`, `rediss:` or `memory:`");
                Err(Error::new(Code::Unsupported, what).field("backend"))
            }
            Some((scheme, _)) if scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                invalid(format!(
                    "there is no backend `{scheme}:`; use `embedded:FOLDER`, `redis://HOST:PORT`, `rediss://…` or `memory:`"
                ))
            }
            _ => invalid(
                "a backend is written as `embedded:FOLDER`, `redis://HOST:PORT`, `rediss://…` or `memory:`".into(),
            ),
        }
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Memory => f.write_str("memory:"),
            Kind::Embedded(path) => write!(f, "embedded:{}", path.display()),
            Kind::Redis(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BackendUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackendUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        super::text(from)?.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password that holds a `/` or `?` unescaped is hidden as well: everything up to the last `@` is its.
    let Some((credentials, place)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = credentials.split_once(':').map_or(credentials, |(user, _)| user);
    format!("{scheme}://{user}:***@{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:secret@host/2", "redis://:***@host/2"),
            ("rediss://user:se:cr@et@host:1", "rediss://user:***@host:1"),
            ("redis://user:sec/ret@host", "redis://user:***@host"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
        ] {
            let parsed: BackendUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(format!("{parsed:?}"), shown);
            assert_eq!(serde_json::to_string(&parsed).unwrap(), format!("{shown:?}"));
            assert_eq!(parsed.redis_url(), Some(url));
        }
        for wrong in [
            "kafka://user:secret@host",
            "reddis://:secret@host",
            "host:secret",
            "redis:secret",
            "redis://:secret@host:port",
            "secret",
        ] {
            let error = wrong.parse::<BackendUrl>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn backends_that_cannot_be_say_what_can() {
        for (text, code, hint) in [
            ("kafka://localhost:9092", Code::Unsupported, "`embedded:`"),
            ("redis-cluster://localhost", Code::Unsupported, "`redis:`"),
            ("postgres://localhost", Code::InvalidConfig, "`redis://HOST:PORT`"),
            ("embedded:", Code::InvalidConfig, "embedded:./synapse-data"),
            ("./data", Code::InvalidConfig, "`embedded:FOLDER`"),
            ("", Code::InvalidConfig, "`embedded:FOLDER`"),
            ("redis:", Code::InvalidConfig, "redis://host:6379"),
            ("redis://host:port", Code::InvalidConfig, "port"),
            ("memory:x", Code::InvalidConfig, "nothing after the colon"),
        ] {
            let error = text.parse::<BackendUrl>().unwrap_err();
            assert_eq!((error.code(), error.field_path()), (code, Some("backend")), "{text}");
            assert!(error.message().contains(hint), "{error}");
        }
    }
}
