//! The connections of a client.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::{ClientOptions, DEFAULT_URL, Error, Result};

/// How many subscriptions share a connection. A hub allows 1000 streams on one, and they are not all subscriptions.
const SUBSCRIPTIONS_MAX: usize = 200;

/// How much the hub may send ahead on one stream.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// How much the hub may send ahead on one connection: more than all its streams together, so that subscriptions that
/// are not read never keep the others from being read.
const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// One connection for calls and publishing, and more as subscriptions need them. Each is made when it is first needed,
/// and made again by itself when it was lost.
pub(crate) struct Connections {
    endpoint: Endpoint,
    /// The first carries the calls as well.
    lanes: Mutex<Vec<Lane>>,
}

struct Lane {
    channel: Channel,
    subscriptions: usize,
}

/// A place for one subscription on one of the connections.
pub(crate) struct Seat {
    pub(crate) channel: Channel,
    lane: usize,
    connections: Arc<Connections>,
}

impl Connections {
    /// To be connected when it is first needed.
    pub(crate) fn lazy(url: &str, options: &ClientOptions) -> Result<Arc<Self>> {
        let endpoint = endpoint(url, options)?;
        let channel = endpoint.connect_lazy();
        Ok(Self::starting(endpoint, channel))
    }

    /// Connected now.
    pub(crate) async fn eager(url: &str, options: &ClientOptions) -> Result<Arc<Self>> {
        let endpoint = endpoint(url, options)?;
        let channel = endpoint.connect().await.map_err(|error| Error::unreachable(crate::error::chain(&error)))?;
        Ok(Self::starting(endpoint, channel))
    }

    fn starting(endpoint: Endpoint, channel: Channel) -> Arc<Self> {
        Arc::new(Self { endpoint, lanes: Mutex::new(vec![Lane { channel, subscriptions: 0 }]) })
    }

    /// The connection for calls and publishing.
    pub(crate) fn channel(&self) -> Channel {
        self.lanes.lock()[0].channel.clone()
    }

    /// A place for a subscription.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let mut lanes = self.lanes.lock();
        let free = lanes.iter().position(|lane| lane.subscriptions < SUBSCRIPTIONS_MAX);
        let lane = free.unwrap_or_else(|| {
            lanes.push(Lane { channel: self.endpoint.connect_lazy(), subscriptions: 0 });
            lanes.len() - 1
        });
        lanes[lane].subscriptions += 1;
        Seat { channel: lanes[lane].channel.clone(), lane, connections: self.clone() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lanes.lock()[self.lane].subscriptions -= 1;
    }
}

fn endpoint(url: &str, options: &ClientOptions) -> Result<Endpoint> {
    let invalid = |why: String| {
        let what = format!("{url:?} is no address of a hub ({why}); write it like {DEFAULT_URL}");
        Error::new("invalid_argument", what)
    };
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    if !(with_scheme.starts_with("http://") || with_scheme.starts_with("https://")) {
        return Err(invalid("it begins neither with http:// nor with https://".into()));
    }
    let secure = with_scheme.starts_with("https://");
    let mut endpoint = Endpoint::from_shared(with_scheme)
        .map_err(|error| invalid(crate::error::chain(&error)))?
        .tcp_nodelay(true)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    if secure {
        let mut tls = ClientTlsConfig::new().with_webpki_roots();
        if let Some(pem) = &options.ca_pem {
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        endpoint = endpoint.tls_config(tls).map_err(|error| invalid(crate::error::chain(&error)))?;
    }
    Ok(endpoint)
}

/// The time now, as events carry it.
pub(crate) fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn subscriptions_spread_over_connections_and_free_their_places() {
        let connections = Connections::lazy("127.0.0.1:1", &ClientOptions::default()).unwrap();
        let mut seats: Vec<Seat> = (0..=2 * SUBSCRIPTIONS_MAX).map(|_| connections.seat()).collect();
        let lanes: Vec<usize> = seats.iter().map(|seat| seat.lane).collect();
        assert_eq!((lanes[0], lanes[SUBSCRIPTIONS_MAX], lanes[2 * SUBSCRIPTIONS_MAX]), (0, 1, 2));
        drop(seats.remove(3));
        assert_eq!(connections.seat().lane, 0, "a freed place is used again");
    }

    #[tokio::test]
    async fn only_addresses_of_hubs_are_taken() {
        for good in ["http://127.0.0.1:8002", "127.0.0.1:8002", "localhost:1", "https://hub.example", "http://[::1]:1"] {
            assert!(Connections::lazy(good, &ClientOptions::default()).is_ok(), "{good}");
        }
        for bad in ["", "http://", "redis://127.0.0.1:6379", "http://a b"] {
            let error = Connections::lazy(bad, &ClientOptions::default()).err().expect(bad);
            assert_eq!(error.code, "invalid_argument");
            assert!(error.message.contains("127.0.0.1:8002"), "{error}");
        }
    }
}
