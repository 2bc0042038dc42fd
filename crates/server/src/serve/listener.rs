//! Accepting connections, up to a limit, until told to stop.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use synapse_hub_core::{Code, Error, Result};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::Semaphore,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::connection::{self, Protocols};
use crate::app::App;

/// How many connections the system holds that were not accepted yet.
const BACKLOG: i32 = 4096;
/// How long an idle connection is before the system asks whether the other end is still there.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long to wait after the system could not give a connection (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often such failures are logged at most.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Listens on `HOST:PORT`.
///
/// # Errors
/// `invalid_config` saying why the address cannot be had.
pub(super) async fn bind(listen: &str) -> Result<TcpListener> {
    let failed = |why: String| Error::new(Code::InvalidConfig, why).field("listen");
    let addresses: Vec<SocketAddr> =
        lookup_host(listen).await.map_err(|error| failed(format!("{listen} cannot be resolved: {error}")))?.collect();
    let mut last = failed(format!("{listen} has no address"));
    for address in addresses {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = failed(cannot_listen(listen, &error)).caused_by(error),
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted hub gets its port back while old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn cannot_listen(listen: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{listen} is in use: another hub or program listens there; stop it, or listen elsewhere with --listen \
             (port 0 takes a free one)"
        ),
        io::ErrorKind::AddrNotAvailable => format!("{listen} is no address of this machine"),
        io::ErrorKind::PermissionDenied => {
            format!("{listen} needs rights that this process has not; take a port from 1024 on")
        }
        _ => format!("cannot listen on {listen}: {error}"),
    }
}

/// Lets this process have as many files open as the system allows it: each connection is one.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if before != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, limit)
    {
        tracing::warn!(before, %error, "the limit of open files cannot be raised");
    }
}

/// Connections being accepted and served.
pub(super) struct Accepting {
    /// No more connections; open ones finish what they are doing.
    stop: CancellationToken,
    connections: TaskTracker,
    /// Cuts what is left.
    _cut: DropGuard,
}

impl Accepting {
    /// Serves what connects to `listener`, until dropped.
    pub(super) fn start(listener: TcpListener, service: Router, app: &App) -> Self {
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let accept = Accept {
            listener,
            service,
            app: app.clone(),
            protocols: Arc::new(Protocols::new(&app.config.http)),
            places: Arc::new(Semaphore::new(app.config.http.connections.min(Semaphore::MAX_PERMITS))),
            turned_away: Arc::new(Semaphore::new(connection::TURNED_AWAY_AT_ONCE)),
            stop: stop.clone(),
            cut: cut.clone(),
            connections: connections.clone(),
        };
        connections.spawn(accept.run());
        Self { stop, connections, _cut: cut.drop_guard() }
    }

    /// Accepts nothing more and waits until the open connections have ended.
    pub(super) async fn finish(&self) {
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
    }
}

struct Accept {
    listener: TcpListener,
    service: Router,
    app: App,
    protocols: Arc<Protocols>,
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    stop: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Accept {
    async fn run(self) {
        let mut logged: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.cut.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if logged.is_none_or(|logged| logged.elapsed() > ACCEPT_LOG_INTERVAL) {
                        logged = Some(Instant::now());
                        tracing::error!(%error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE));
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.app.metrics.connections_refused.inc();
            if let Ok(permit) = self.turned_away.clone().try_acquire_owned() {
                let limit = self.app.config.http.connections;
                self.connections.spawn(async move {
                    connection::turn_away(stream, limit).await;
                    drop(permit);
                });
            }
            return;
        };
        let serving = connection::serve(
            stream,
            peer,
            self.service.clone(),
            self.protocols.clone(),
            self.stop.clone(),
            self.cut.clone(),
        );
        let open = self.app.metrics.connections.clone();
        self.connections.spawn(async move {
            open.inc();
            serving.await;
            open.dec();
            drop(place);
        });
    }
}

/// Whether the error is of the one connection that was about to be accepted, and says nothing of the next.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
