//! From an address to a connection that is ready for commands.

mod address;
mod stream;
mod tls;

use std::time::Duration;

use synapse_hub_core::{Code, Error, Result};
use tokio::io::AsyncWriteExt as _;

pub use address::Address;
pub(crate) use address::Endpoint;
pub(crate) use stream::Stream;
pub(crate) use tls::Tls;

use crate::{
    errors,
    resp::{self, Parser, Replies, View},
};

/// The oldest major version that is used: its streams count what was ever added to them.
const VERSION_MAJOR_MIN: u32 = 7;

/// How connections are made.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) address: Address,
    pub(crate) tls: Option<Tls>,
    pub(crate) timeout: Duration,
}

/// A connection that has been logged in.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    /// The number of the connection at the server.
    pub(crate) client_id: u64,
    pub(crate) version: String,
}

impl Dialer {
    /// Connects, logs in, and chooses the database.
    pub(crate) async fn dial(&self) -> Result<Connected> {
        let address = &self.address;
        match tokio::time::timeout(self.timeout, self.dial_unbounded()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::new(
                Code::BackendUnavailable,
                format!(
                    "Redis at {address} did not answer within {:?}; check the address and the network",
                    self.timeout
                ),
            )),
        }
    }

    async fn dial_unbounded(&self) -> Result<Connected> {
        let mut stream = Stream::open(&self.address, self.tls.as_ref()).await?;
        let commands = self.greeting();
        let lost = |error: std::io::Error| unreachable(&self.address, &error);
        stream.write_all(&commands.bytes).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let replies = read_replies(&mut stream, commands.count).await.map_err(lost)?;
        self.greeted(stream, &replies)
    }

    /// `HELLO` says what `AUTH`, `CLIENT SETNAME` and parts of `INFO` would, and is allowed to every user.
    fn greeting(&self) -> Greeting {
        let mut bytes = Vec::new();
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"2"];
        if let Some(password) = &self.address.password {
            let user = self.address.user.as_deref().unwrap_or("default");
            hello.extend([&b"AUTH"[..], user.as_bytes(), password.as_bytes()]);
        }
        hello.extend([&b"SETNAME"[..], b"synapse-hub"]);
        resp::command(&mut bytes, &hello);
        let mut count = 1;
        if self.address.database != 0 {
            resp::command(&mut bytes, &[b"SELECT", self.address.database.to_string().as_bytes()]);
            count += 1;
        }
        Greeting { bytes, count }
    }

    fn greeted(&self, stream: Stream, replies: &Replies) -> Result<Connected> {
        let mut cursor = replies.cursor();
        let Some(fields) = cursor.array() else {
            let Some(View::Error(text)) = cursor.next() else { return Err(strange(&self.address)) };
            if text.starts_with(b"ERR unknown command") {
                return Err(too_old("6 or older"));
            }
            return Err(errors::from_redis(text));
        };
        let (mut version, mut client_id) = (String::new(), 0);
        for _ in 0..fields / 2 {
            let name = cursor.bytes().unwrap_or_default();
            match (name, cursor.peek()) {
                (b"version", Some(value)) => {
                    version = String::from_utf8_lossy(value.bytes().unwrap_or_default()).into_owned();
                }
                (b"id", Some(value)) => client_id = value.number().unwrap_or_default(),
                _ => {}
            }
            cursor.pass();
        }
        for reply in cursor {
            if let View::Error(text) = reply {
                return Err(errors::from_redis(text));
            }
        }
        if major(&version) < VERSION_MAJOR_MIN {
            return Err(too_old(&version));
        }
        Ok(Connected { stream, client_id, version })
    }
}

struct Greeting {
    bytes: Vec<u8>,
    count: u32,
}

async fn read_replies(stream: &mut Stream, count: u32) -> std::io::Result<Replies> {
    use tokio::io::AsyncReadExt as _;
    let (mut parser, mut buffer) = (Parser::default(), bytes::BytesMut::new());
    parser.start(count);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            // What it said before it hung up explains why: too many clients, or protected mode.
            let said = String::from_utf8_lossy(&buffer).trim().to_owned();
            return Err(std::io::Error::other(if said.is_empty() { "it hung up".to_owned() } else { said }));
        }
        match parser.read(&mut buffer) {
            Ok(Some(replies)) => return Ok(replies),
            Ok(None) => {}
            Err(_) => return Err(std::io::Error::other("it does not speak the Redis protocol")),
        }
    }
}

/// The first number of a version; 0 when there is none.
fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
}

fn too_old(version: &str) -> Error {
    let what = format!("this is Redis {version}, and Synapse needs {VERSION_MAJOR_MIN} or later; upgrade it");
    Error::new(Code::Unsupported, what)
}

fn strange(address: &Address) -> Error {
    Error::new(Code::BackendError, format!("{address} answers, but not as Redis does; check the address"))
}

/// A connection that could not be made or broke.
pub(crate) fn unreachable(address: &Address, error: &std::io::Error) -> Error {
    Error::new(
        Code::BackendUnavailable,
        format!("Redis at {address} cannot be reached ({error}); check that it runs and that the address is right"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_below_seven_are_told_apart() {
        for (version, expected) in [("7.0.15", 7), ("6.2.6", 6), ("8.2", 8), ("255.255.255", 255), ("", 0), ("x", 0)] {
            assert_eq!(major(version), expected, "{version}");
        }
    }
}
