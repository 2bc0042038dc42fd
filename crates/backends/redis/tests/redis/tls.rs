//! Encrypted connections.

use std::{path::Path, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use synapse_hub_core::{Code, Position, backend::Backend as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{server::RedisServer, support::*};

/// Ends TLS before a Redis that has none. Returns its port.
async fn terminator(to: u16, certificate: &Path) -> u16 {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut encrypted) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                _ = tokio::io::copy_bidirectional(&mut encrypted, &mut plain).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn rediss_believes_the_authority_it_is_given_and_no_other() {
    let server = RedisServer::start(&["--requirepass", "pw"]);
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("ca.pem");
    let port = terminator(server.port, &certificate).await;
    let own = format!("rediss://:pw@localhost:{port}/1?ca={}", certificate.display());
    for url in [own, format!("rediss://:pw@127.0.0.1:{port}?insecure=true")] {
        let backend = connect(&url).await;
        let log = open(&backend, "t").await;
        let mut items = tail(&log, Position::START);
        store(&log, produced(0..2000, "p", 0)).await.unwrap();
        assert_eq!(take(&mut items, 2000).await.len(), 2000);
        assert!(backend.health().await.readable);
    }
    // The public authorities do not know it, and it is not the certificate of this name.
    for url in [
        format!("rediss://:pw@localhost:{port}"),
        format!("rediss://:pw@127.0.0.1:{port}?ca={}", certificate.display()),
    ] {
        let error = connect_error(&url).await;
        assert_eq!(error.code(), Code::BackendUnavailable, "{error}");
        assert!(error.message().contains("certificate"), "{error}");
    }
    assert_eq!(connect_error("rediss://localhost?ca=/no/such/file").await.code(), Code::InvalidConfig);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_as_good_as_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let _server = RedisServer::start(&["--unixsocket", socket.to_str().unwrap()]);
    let backend = connect(&format!("redis+unix://{}?db=3", socket.display())).await;
    let log = open(&backend, "t").await;
    store(&log, produced(0..3, "p", 0)).await.unwrap();
    assert_eq!(ids(&contents(&log).await), [0, 1, 2]);
}
