//! As much of Redis' protocol as the benches need, without a client between them and the socket.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, bail};

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Text(Vec<u8>),
    Number(i64),
    List(Vec<Reply>),
    Nil,
}

/// A connection.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
    scratch: Vec<u8>,
}

impl Connection {
    pub(super) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), scratch: Vec::new() })
    }

    /// Sends a command and waits for its reply; an error reply is an error.
    pub(super) fn call(&mut self, words: &[impl AsRef<[u8]>]) -> Result<Reply> {
        self.scratch.clear();
        write!(self.scratch, "*{}\r\n", words.len())?;
        for word in words.iter().map(AsRef::as_ref) {
            write!(self.scratch, "${}\r\n", word.len())?;
            self.scratch.extend_from_slice(word);
            self.scratch.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&self.scratch)?;
        read(&mut self.stream)
    }
}

impl Reply {
    pub(super) fn list(self) -> Result<Vec<Reply>> {
        match self {
            Reply::List(items) => Ok(items),
            other => bail!("Redis sent no list: {other:?}"),
        }
    }

    pub(super) fn text(self) -> Result<Vec<u8>> {
        match self {
            Reply::Text(text) => Ok(text),
            other => bail!("Redis sent no text: {other:?}"),
        }
    }

    /// The id of the last entry in a reply of `XREAD` on one stream.
    pub(super) fn newest_id(self) -> Result<String> {
        let last = |reply: Reply| reply.list()?.pop().context("Redis sent an empty list");
        let entries = last(last(self)?)?;
        let entry = last(entries)?.list()?;
        Ok(String::from_utf8(entry.into_iter().next().context("an entry without an id")?.text()?)?)
    }
}

fn read(from: &mut impl BufRead) -> Result<Reply> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.trim_end();
    if line.is_empty() {
        bail!("Redis closed the connection");
    }
    let (kind, rest) = line.split_at(1);
    Ok(match kind {
        "+" => Reply::Text(rest.into()),
        "-" => bail!("Redis answered {rest}"),
        ":" => Reply::Number(rest.parse()?),
        "$" | "*" if rest == "-1" => Reply::Nil,
        "$" => {
            let length: usize = rest.parse()?;
            let mut text = vec![0; length + 2];
            from.read_exact(&mut text)?;
            text.truncate(length);
            Reply::Text(text)
        }
        "*" => Reply::List((0..rest.parse::<usize>()?).map(|_| read(from)).collect::<Result<_>>()?),
        _ => bail!("Redis sent {line:?}"),
    })
}

/// A number of `INFO`, by a line's name, or within a line by `name.part` (`cmdstat_xread.calls`); 0 when it is not there.
pub(super) fn info(connection: &mut Connection, section: &str, name: &str) -> Result<u64> {
    let Reply::Text(text) = connection.call(&["INFO", section])? else { bail!("INFO is no text") };
    let text = String::from_utf8(text)?;
    let (line, part) = name.split_once('.').map_or((name, None), |(line, part)| (line, Some(part)));
    let value = text.lines().filter_map(|text| text.split_once(':')).find(|(key, _)| *key == line);
    let Some((_, value)) = value else { return Ok(0) };
    let value = match part {
        None => value,
        Some(part) => {
            let parts = value.split(',').filter_map(|part| part.split_once('='));
            parts.into_iter().find(|(key, _)| *key == part).context("no such part")?.1
        }
    };
    Ok(value.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_every_kind_are_read() {
        let mut bytes: &[u8] = b"*4\r\n$3\r\na\r\n\r\n:-7\r\n*-1\r\n*1\r\n+OK\r\n";
        let list = vec![
            Reply::Text(b"a\r\n".into()),
            Reply::Number(-7),
            Reply::Nil,
            Reply::List(vec![Reply::Text(b"OK".into())]),
        ];
        assert_eq!(read(&mut bytes).unwrap(), Reply::List(list));
        assert!(read(&mut &b"-ERR no\r\n"[..]).unwrap_err().to_string().contains("ERR no"));
        assert!(read(&mut &b""[..]).is_err());
    }
}
