//! Connections: limits, garbage, odd clients.

use std::time::Duration;

use synapse_hub_core::Code;
use synapse_hub_server::{BackendUrl, Config, Server};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{PATIENCE, TestHub, client_builder, hub, hub_with, numbers};

/// Sends bytes and reads what comes back until the hub closes.
async fn raw(hub: &TestHub, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(hub.server.address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // What was sent and not read resets the connection as it closes.
    if let Err(error) = read.expect("the hub neither answers nor closes") {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_told_clearly() {
    let hub = hub().await;
    let listen = hub.server.address().to_string();
    let config = |listen: &str| Config { listen: listen.into(), backend: BackendUrl::memory(), ..Config::default() };
    let error = Server::start(config(&listen)).await.err().unwrap();
    assert_eq!((error.code(), error.field_path()), (Code::InvalidConfig, Some("listen")));
    assert!(error.message().contains(&listen) && error.message().contains("in use"), "{error}");
    let error = Server::start(config("192.0.2.1:0")).await.err().unwrap();
    assert!(error.message().contains("no address of this machine"), "{error}");
    let named = Server::start(config("localhost:0")).await.unwrap();
    assert!(named.address().ip().is_loopback() && named.address().port() != 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_connection_harms_nobody() {
    let hub = hub().await;
    assert!(raw(&hub, b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    assert!(
        raw(&hub, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await.starts_with("HTTP/1.1 400"),
        "TLS on a plain port"
    );
    raw(&hub, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no frame at all, and goes on for a while").await;
    let too_long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(1 << 20));
    assert!(raw(&hub, too_long.as_bytes()).await.starts_with("HTTP/1.1 4"));
    let chunked = "POST /v1/topics/t/events HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n";
    let good = raw(&hub, format!("{chunked}8\r\n{{\"event\"\r\n4\r\n:\"t\"\r\n1\r\n}}\r\n0\r\n\r\n").as_bytes()).await;
    assert!(good.starts_with("HTTP/1.1 200"), "{good}");
    let broken = raw(&hub, format!("{chunked}zz\r\n").as_bytes()).await;
    assert!(broken.starts_with("HTTP/1.1 400"), "{broken}");
    hub.publish_numbers("t", 1..2).await;
    assert_eq!(numbers(&hub.page("t", "filter.n=1").await), [1], "and it goes on working");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_too_long_over_a_request_are_let_go() {
    let hub = hub_with(|config| {
        config.http.header_timeout = Duration::from_millis(100);
        config.http.body_timeout = Duration::from_millis(100);
    })
    .await;
    assert_eq!(raw(&hub, b"").await, "", "nothing at all");
    assert_eq!(raw(&hub, b"PRI * HTT").await, "", "half a preface");
    raw(&hub, b"GET /livez HTTP/1.1\r\nhost:").await;
    let head = "POST /v1/topics/t/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{";
    let answer = raw(&hub, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"request_timeout\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() {
    let hub = hub().await;
    let head = "POST /v1/topics/t/events HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let answer = raw(&hub, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_told_so_and_places_are_given_back() {
    let hub = hub_with(|config| config.http.connections = 2).await;
    let get = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(hub.server.address()).await.unwrap();
        stream.write_all(get).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        open.push(stream);
    }
    let answer = raw(&hub, get).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"overloaded\""), "{answer}");
    assert!(answer.contains("http.connections"), "{answer}");
    drop(open);
    crate::support::eventually("a place is free again", async || {
        raw(&hub, b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_carries_plain_requests_too() {
    let hub = hub().await;
    let client = client_builder().http2_prior_knowledge().build().unwrap();
    let response = client.get(format!("{}/livez", hub.url)).send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    let response = client
        .post(format!("{}/v1/topics/t/events", hub.url))
        .header("content-type", "application/json")
        .body(r#"{"event":"t"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
}

/// The status, code and message of a gRPC call whose message are these bytes.
async fn call(hub: &TestHub, path: &str, message: &[u8]) -> (String, String, String) {
    let client = client_builder().http2_prior_knowledge().build().unwrap();
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let request = client.post(format!("{}{path}", hub.url)).header("content-type", "application/grpc").body(frame);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let text = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let message = text("grpc-message");
    let message = percent_encoding::percent_decode_str(&message).decode_utf8().unwrap().into_owned();
    (text("grpc-status"), text("synapse-error-code"), message)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_grpc_method_is_told_by_name() {
    let hub = hub().await;
    for path in ["/synapse.v1.EventService/Nothing", "/some.Service/Method"] {
        let (status, code, message) = call(&hub, path, b"").await;
        assert_eq!((status.as_str(), code.as_str()), ("12", "route_not_found"), "{path}");
        assert!(message.contains(path), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_message_that_cannot_be_read_is_the_callers_fault() {
    let hub = hub().await;
    for method in ["EventService/Publish", "EventService/Subscribe", "TopicService/CreateTopic"] {
        let (status, code, message) = call(&hub, &format!("/synapse.v1.{method}"), &[0x0a, 0xff]).await;
        assert_eq!((status.as_str(), code.as_str()), ("3", "invalid_argument"), "{method}: {message}");
        assert!(message.contains("cannot be read"), "{method}: {message}");
    }
}
