//! Addresses of Redis servers, as people write them.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use synapse_hub_core::{Code, Error};

/// Where a Redis server is, and who asks.
///
/// `redis://[user[:password]@]host[:port][/database]`; `rediss://` for TLS, with `?ca=/path/to/ca.pem` for a certificate
/// authority of one's own and `?insecure=true` to believe any certificate; `redis+unix:///path/to/socket[?db=1]`. User,
/// password and path may be percent-encoded. The text form never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) endpoint: Endpoint,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: u32,
    pub(crate) tls: Option<TlsChoice>,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TlsChoice {
    pub(crate) insecure: bool,
    pub(crate) ca: Option<PathBuf>,
}

impl Address {
    /// Uses this password unless the address has one.
    #[must_use]
    pub fn or_password(mut self, password: Option<String>) -> Self {
        if self.password.is_none() {
            self.password = password.filter(|password| !password.is_empty());
        }
        self
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            invalid("it has no scheme; write it as redis://host:6379 or rediss://user:password@host:6380/0")
        })?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, place) = rest.rsplit_once('@').map_or((None, rest), |(who, place)| (Some(who), place));
        let (user, password) = credentials.map_or(Ok((None, None)), parse_credentials)?;
        let mut address = match scheme {
            "redis" | "rediss" => {
                let (endpoint, database) = parse_tcp(place)?;
                let tls = (scheme == "rediss").then(TlsChoice::default);
                Self { endpoint, user, password, database, tls }
            }
            "redis+unix" | "unix" => {
                let path = PathBuf::from(decode(place)?);
                if !path.is_absolute() {
                    return Err(invalid("the path of a socket starts with `/`, as in redis+unix:///run/redis.sock"));
                }
                Self { endpoint: Endpoint::Unix(path), user, password, database: 0, tls: None }
            }
            _ => return Err(invalid("the scheme is none of `redis`, `rediss` and `redis+unix`")),
        };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            address.set(option)?;
        }
        Ok(address)
    }
}

impl Address {
    fn set(&mut self, option: &str) -> Result<(), Error> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, &mut self.tls) {
            ("db", _) => self.database = parse_database(value)?,
            ("insecure", Some(tls)) => tls.insecure = !matches!(value, "false" | "0"),
            ("ca", Some(tls)) => tls.ca = Some(decode(value)?.into()),
            ("insecure" | "ca", None) => return Err(invalid("`insecure` and `ca` belong to `rediss://`")),
            _ => {
                return Err(invalid(&format!("the option {name:?} is not known; there are `db`, `ca` and `insecure`")));
            }
        }
        Ok(())
    }
}

fn parse_credentials(text: &str) -> Result<(Option<String>, Option<String>), Error> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let some = |text: &str| decode(text).map(|text| (!text.is_empty()).then_some(text));
    Ok((some(user)?, some(password)?))
}

fn parse_tcp(text: &str) -> Result<(Endpoint, u32), Error> {
    let (place, database) = text.split_once('/').unwrap_or((text, ""));
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(|| invalid("a `[` is not closed"))?;
            (host, rest.strip_prefix(':').unwrap_or(rest))
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    if host.is_empty() {
        return Err(invalid("it has no host"));
    }
    let port = match port {
        "" => 6379,
        port => port.parse().map_err(|_| invalid("the port is no number from 1 to 65535"))?,
    };
    let database = if database.is_empty() { 0 } else { parse_database(database)? };
    Ok((Endpoint::Tcp { host: host.to_owned(), port }, database))
}

fn parse_database(text: &str) -> Result<u32, Error> {
    text.parse().map_err(|_| invalid("the database is no number, as in redis://host:6379/0"))
}

fn decode(text: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| invalid("a part of it is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// Addresses hold passwords, so the error does not repeat the address.
fn invalid(why: &str) -> Error {
    Error::new(Code::InvalidConfig, format!("the address of Redis cannot be: {why}"))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port } => {
                let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
                let brackets = if host.contains(':') { ["[", "]"] } else { [""; 2] };
                write!(f, "{scheme}://{}{host}{}:{port}/{}", brackets[0], brackets[1], self.database)
            }
            Endpoint::Unix(path) => write!(f, "redis+unix://{}?db={}", path.display(), self.database),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown, user, password) in [
            ("redis://localhost", "redis://localhost:6379/0", None, None),
            ("redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000/3", None, None),
            ("redis://:p%40ss@h:1/", "redis://h:1/0", None, Some("p@ss")),
            ("redis://me:a:b@h", "redis://h:6379/0", Some("me"), Some("a:b")),
            ("redis://me@h", "redis://h:6379/0", Some("me"), None),
            ("rediss://[::1]:6380?insecure=true&db=2", "rediss://[::1]:6380/2", None, None),
            ("redis+unix:///run/a%20b.sock?db=1", "redis+unix:///run/a b.sock?db=1", None, None),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!((address.user.as_deref(), address.password.as_deref()), (user, password), "{text}");
        }
        let address: Address = "rediss://h?ca=/etc/ca.pem".parse().unwrap();
        assert_eq!(address.tls, Some(TlsChoice { insecure: false, ca: Some("/etc/ca.pem".into()) }));
    }

    #[test]
    fn a_password_from_elsewhere_never_replaces_the_address_s_own() {
        let of = |text: &str| text.parse::<Address>().unwrap().or_password(Some("env".to_owned())).password;
        assert_eq!(of("redis://h").as_deref(), Some("env"));
        assert_eq!(of("redis://:own@h").as_deref(), Some("own"));
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_without_showing_their_password() {
        for text in [
            "",
            "localhost:6379",
            "http://secret@h",
            "redis://",
            "redis://:secret@",
            "redis://:secret@h:port",
            "redis://:secret@h/db",
            "redis://:secret@h?x=1",
            "redis://:secret@h?insecure=true",
            "redis://:secret@[::1",
            "redis+unix://secret",
            "redis://:secret%ff@h",
            "redis://:secret@h:70000",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.code(), Code::InvalidConfig, "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
