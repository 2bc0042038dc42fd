//! A real `redis-server` and a real hub, each on a free port and in a folder of its own.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use tempfile::TempDir;

use super::{Session, process::Server, redis};

/// A Redis without persistence.
pub(super) struct Redis {
    pub(super) server: Server,
    pub(super) port: u16,
    _folder: TempDir,
}

/// What a hub keeps its events in.
#[derive(Clone, Copy)]
pub(super) enum Storage<'a> {
    Embedded,
    Redis(&'a Redis),
}

/// A hub with its default settings.
pub(super) struct Hub {
    pub(super) server: Server,
    pub(super) port: u16,
    _folder: TempDir,
}

impl Session<'_> {
    pub(super) fn redis(&self) -> Result<Redis> {
        let (folder, port) = (self.temp()?, free_port()?);
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.current_dir(folder.path());
        let server = Server::start(&mut command, &folder.path().join("log"), || {
            redis::Connection::open(port).is_ok_and(|mut connection| connection.call(&["PING"]).is_ok())
        })?;
        Ok(Redis { server, port, _folder: folder })
    }

    pub(super) fn hub(&self, storage: Storage<'_>) -> Result<Hub> {
        let (folder, port) = (self.temp()?, free_port()?);
        let backend = match storage {
            Storage::Embedded => "embedded:./synapse-data".to_owned(),
            Storage::Redis(redis) => format!("redis://127.0.0.1:{}", redis.port),
        };
        let mut command = Command::new(self.project.binary(self.profile));
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--backend", &backend]);
        command.current_dir(folder.path());
        let server = Server::start(&mut command, &folder.path().join("log"), || ready(port))?;
        Ok(Hub { server, port, _folder: folder })
    }

    fn temp(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(self.folder.path())?)
    }
}

impl Hub {
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether the hub on this port says that it is ready.
fn ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    };
    ask().is_ok_and(|reply| reply.starts_with("HTTP/1.1 200"))
}
