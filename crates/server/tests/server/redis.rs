//! What the surfaces say while Redis is away, and that everything heals when it is back.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::StatusCode;
use serde_json::json;
use synapse_hub_core::Code;
use synapse_hub_server::Server;

use crate::support::{EventSource, eventually, hub_with, ok, problem};

/// A Redis of one's own, stopped when dropped.
struct Redis {
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl Redis {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut redis = Self { port, folder: tempfile::tempdir().unwrap(), process: None };
        redis.run();
        redis
    }

    fn run(&mut self) {
        let port = self.port.to_string();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .args(["--requirepass", "secret"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("redis-server is needed: `cargo xtask test` installs it"));
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn url(&self) -> String {
        format!("redis://:secret@127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_everything_says_so_and_heals_when_it_is_back() {
    let mut redis = Redis::start();
    let url = redis.url();
    let hub = hub_with(|config| {
        config.backend = url.parse().unwrap();
        config.redis.response_timeout = Duration::from_millis(500);
    })
    .await;
    hub.publish_numbers("t", 0..2).await;
    let described = ok(hub.get("/v1/topics/t")).await;
    assert!(described["durability"].as_str().unwrap().contains("appendfsync"), "{described}");
    let mut source = EventSource::open(hub.get("/v1/topics/t/events?replay_from=earliest")).await;
    assert_eq!(source.numbers(2).await, [0, 1]);

    redis.kill();
    eventually("it is unhealthy", async || {
        hub.get("/health").send().await.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let health: serde_json::Value = hub.get("/health").send().await.unwrap().json().await.unwrap();
    assert_eq!((&health["status"], &health["backend"]), (&json!("unhealthy"), &json!("redis")));
    assert!(!health["notes"].as_array().unwrap().is_empty(), "{health}");
    assert!(!health.to_string().contains("secret"), "{health}");
    let ready = hub.get("/readyz?verbose").send().await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().await.unwrap().contains("[-] backend redis write failed"));
    assert_eq!(hub.get("/livez").send().await.unwrap().status(), StatusCode::OK, "it need not be restarted");
    let (status, told) =
        problem(hub.post("/v1/topics/t/events", "application/json", r#"{"event":"tick","n":9}"#)).await;
    assert!(matches!(status.as_u16(), 503 | 504), "{told}");
    assert!(["backend_unavailable", "backend_timeout"].contains(&told["code"].as_str().unwrap()), "{told}");
    assert_eq!(told["retryable"], true);
    assert!(!told.to_string().contains("secret"), "{told}");

    redis.run();
    eventually("it is healthy again", async || hub.get("/health").send().await.unwrap().status() == StatusCode::OK)
        .await;
    let again = || hub.post("/v1/topics/t/events", "application/json", r#"{"event":"tick","n":2}"#);
    eventually("publishing works again", async || again().send().await.unwrap().status().is_success()).await;
    // The event whose publishing failed may have been stored or not: nobody could say.
    while source.next().await.json()["n"] != 2 {}
    hub.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_told_by_name() {
    let redis = Redis::start();
    let url = redis.url();
    let hub = hub_with(|config| config.backend = url.parse().unwrap()).await;
    let port = redis.port.to_string();
    let cli = Command::new("redis-cli")
        .args(["-p", &port, "-a", "secret", "--no-auth-warning", "set", "taken", "x"])
        .output();
    assert!(cli.unwrap().status.success());
    let (status, told) = problem(hub.post("/v1/topics/taken/events", "application/json", r#"{"event":"t"}"#)).await;
    assert_eq!((status.as_u16(), &told["code"], &told["topic"]), (409, &json!("backend_wrong_type"), &json!("taken")));
    hub.publish_numbers("t", 0..1).await;
    let list = ok(hub.get("/v1/topics")).await;
    assert!(list["topics"].as_array().unwrap().iter().any(|topic| topic["topic"] == "t"), "it spoils no list: {list}");
    hub.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_be_used_is_told_before_anything_is_served() {
    let redis = Redis::start();
    let wrong = format!("redis://:wrong@127.0.0.1:{}", redis.port);
    let config = |url: &str| synapse_hub_server::Config {
        listen: "127.0.0.1:0".into(),
        backend: url.parse().unwrap(),
        redis: synapse_hub_server::RedisConfig {
            connect_timeout: Duration::from_secs(3),
            ..synapse_hub_server::RedisConfig::default()
        },
        ..synapse_hub_server::Config::default()
    };
    let denied = Server::start(config(&wrong)).await.err().unwrap();
    assert_eq!(denied.code(), Code::BackendDenied, "{denied}");
    assert!(!format!("{denied:?}").contains("wrong@"), "{denied:?}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = Server::start(config(&format!("redis://{nobody}"))).await.err().unwrap();
    assert_eq!(away.code(), Code::BackendUnavailable, "{away}");
}
