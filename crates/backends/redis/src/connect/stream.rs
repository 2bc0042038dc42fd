//! The byte stream of a connection, whatever carries it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use synapse_hub_core::Result;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use super::{Address, Endpoint, Tls, unreachable};

/// How long a connection may be silent before the system asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connection to Redis.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    pub(super) async fn open(address: &Address, tls: Option<&Tls>) -> Result<Self> {
        let lost = |error: io::Error| unreachable(address, &error);
        let (host, port) = match &address.endpoint {
            Endpoint::Unix(path) => return UnixStream::connect(path).await.map(Self::Unix).map_err(lost),
            Endpoint::Tcp { host, port } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await.map_err(lost)?;
        // Replies are awaited by somebody: what is written must go out at once.
        stream.set_nodelay(true).map_err(lost)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(lost)?;
        match tls {
            None => Ok(Self::Tcp(stream)),
            Some(tls) => {
                let stream = tls.connector.connect(tls.name.clone(), stream).await.map_err(lost)?;
                Ok(Self::Tls(Box::new(stream)))
            }
        }
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
            Stream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
