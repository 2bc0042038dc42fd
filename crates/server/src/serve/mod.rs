//! Running a hub: backend, hub, listener, and a clean stop.

mod connection;
mod listener;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use synapse_hub_core::{Code, Error, Result, backend::Backend};
use synapse_hub_hub::Hub;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub(crate) use self::connection::Peer;
use self::listener::Accepting;
use crate::{BackendUrl, Config, app::App, backend::open_backend, grpc, http, metrics::ServerMetrics};

/// The exit code of a hub that was told twice to stop.
const EXIT_INTERRUPTED: i32 = 130;

/// What is to be told once a hub listens.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ready {
    /// Where it listens: with its real port, also when port 0 was asked for.
    pub address: SocketAddr,
    /// Where it keeps its events; shown without a password.
    pub backend: BackendUrl,
    /// Names this hub among those that share a backend.
    pub hub_id: String,
}

/// A hub that runs. Dropping it without [`Server::shutdown`] is as if it were killed.
pub struct Server {
    ready: Ready,
    hub: Hub,
    accepting: Accepting,
    deadline: Duration,
}

impl Server {
    /// Opens the backend, starts a hub on it, and listens.
    ///
    /// # Errors
    /// `invalid_config` when the address cannot be had, and what the backend says.
    pub async fn start(config: Config) -> Result<Self> {
        config.validate()?;
        // The address first: a hub that cannot listen should not touch the data.
        let listener = listener::bind(&config.listen).await?;
        let backend = open_backend(&config).await?;
        Self::run(listener, backend, config).await
    }

    /// As [`Server::start`], on a backend that is open.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_on(backend: Arc<dyn Backend>, config: Config) -> Result<Self> {
        config.validate()?;
        let listener = listener::bind(&config.listen).await?;
        Self::run(listener, backend, config).await
    }

    async fn run(listener: tokio::net::TcpListener, backend: Arc<dyn Backend>, config: Config) -> Result<Self> {
        let address = listener.local_addr().map_err(|error| {
            Error::new(Code::Internal, format!("the listener has no address: {error}")).caused_by(error)
        })?;
        let hub = Hub::start(backend, config.hub_options()).await?;
        let metrics = ServerMetrics::register(hub.metrics());
        let (routes, description) = http::routes().split_for_parts();
        let description = description.to_json().map_err(|error| {
            Error::new(Code::Internal, format!("the OpenAPI description cannot be written: {error}"))
        })?;
        let ready = Ready { address, backend: config.backend.clone(), hub_id: hub.options().hub_id.clone() };
        let deadline = config.shutdown_deadline;
        let app = App::new(hub.clone(), config, metrics, Bytes::from(description));
        let service = http::service(routes, grpc::routes(&app)?, app.clone());
        let accepting = Accepting::start(listener, service, &app);
        Ok(Self { ready, hub, accepting, deadline })
    }

    /// Where it listens and what it stores in.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.ready.address
    }

    /// The hub, for programs that run one within themselves.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Cancelled when the server begins to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.hub.shutting_down()
    }

    /// Accepts nothing more, tells subscribers, answers what was accepted once it is stored, and returns when all that is
    /// done or the deadline has passed.
    pub async fn shutdown(self) {
        let Self { hub, accepting, deadline, .. } = self;
        let stopped = async { tokio::join!(hub.shutdown(deadline), accepting.finish()) };
        if tokio::time::timeout(deadline, stopped).await.is_err() {
            tracing::warn!(deadline = ?deadline, "the deadline has passed; open connections are cut");
        }
        // Connections that are left are cut by dropping what accepts them.
    }
}

/// Runs a hub until the process is told to stop (SIGINT, SIGTERM). A second signal ends the process at once.
///
/// # Errors
/// As [`Server::start`].
pub async fn serve(config: Config, on_ready: impl FnOnce(&Ready)) -> Result<()> {
    let mut signals = Signals::new()?;
    listener::raise_file_limit();
    let server = tokio::select! {
        started = Server::start(config) => started?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it listened");
            return Ok(());
        }
    };
    let Ready { address, backend, hub_id } = server.ready();
    tracing::info!(%address, %backend, hub_id, "listening");
    on_ready(server.ready());
    let signal = signals.next().await;
    tracing::info!(signal, "stopping; a second signal ends the process at once");
    tokio::select! {
        () = server.shutdown() => tracing::info!("stopped"),
        signal = signals.next() => {
            tracing::warn!(signal, "ended at once");
            std::process::exit(EXIT_INTERRUPTED);
        }
    }
    Ok(())
}

/// The signals that stop a hub.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| {
            signal(kind).map_err(|error| Error::new(Code::Internal, format!("signals cannot be received: {error}")))
        };
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
