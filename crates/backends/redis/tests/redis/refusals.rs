//! Everything that Redis refuses, by name.

use std::time::Duration;

use redis::Commands as _;
use synapse_hub_core::{
    Code, Durability, Error, Layout, Position, TopicSettings,
    backend::{Append, Backend as _},
    meta::Expected,
};
use synapse_hub_redis::RedisBackend;

use crate::{
    server::{Database, RedisServer},
    support::*,
};

fn config(client: &mut redis::Connection, name: &str, value: &str) {
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query::<()>(client).unwrap();
}

/// Appends in each of the ways there are, all of which must fail alike and store nothing.
async fn refused_in_every_way(backend: &RedisBackend, code: Code) -> Error {
    let log = open(backend, "t").await;
    let packed = open_with(backend, "t", &TopicSettings { layout: Layout::Packed, ..TopicSettings::default() }).await;
    let window = Some(Duration::from_secs(60));
    let mut last = None;
    for (way, log, append) in [
        ("one event", &log, batch(0..1)),
        ("a batch", &log, batch(0..3)),
        ("a producer's small batch", &log, produced(0..3, "p", 0)),
        ("a producer's large batch", &log, produced(0..30, "p", 2)),
        ("a deduplicated batch", &log, Append { dedup_window: window, ..batch(0..3) }),
        ("a packed batch", &packed, batch(0..3)),
        ("a producer's packed batch", &packed, produced(0..3, "p", 1)),
    ] {
        let error = store(log, append).await.expect_err(way);
        assert_eq!((error.code(), error.topic_name()), (code, Some("t")), "{way}: {error}");
        last = Some(error);
    }
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn oom_is_said_as_such_and_heals() {
    let server = RedisServer::start(&[]);
    let backend = connect(&server.url()).await;
    let mut client = server.client();
    config(&mut client, "maxmemory-policy", "noeviction");
    config(&mut client, "maxmemory", "1000000");
    let error = refused_in_every_way(&backend, Code::BackendOutOfMemory).await;
    assert!(error.retryable() && error.message().contains("maxmemory"), "{error}");
    let health = backend.health().await;
    assert!(health.readable && !health.writable && !health.notes.is_empty(), "{health:?}");
    assert_eq!(backend.meta().put("k", "v".into(), Expected::Any).await.unwrap_err().code(), Code::BackendOutOfMemory);
    config(&mut client, "maxmemory", "0");
    let log = open(&backend, "t").await;
    assert_eq!(contents(&log).await.len(), 0, "nothing of what was refused was stored");
    assert!(!store(&log, produced(0..3, "p", 0)).await.unwrap().duplicate);
}

#[tokio::test(flavor = "multi_thread")]
async fn readonly_is_said_as_such_and_reading_goes_on() {
    let primary = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()].map(|text| text));
    let (writer, reader) = (connect(&primary.url()).await, connect(&replica.url()).await);
    let log = open(&reader, "t").await;
    let mut items = tail(&log, Position::START);
    store(&open(&writer, "t").await, batch(0..3)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 3).await), [0, 1, 2]);
    let error = refused_in_every_way(&reader, Code::BackendReadonly).await;
    assert!(error.retryable() && error.message().contains("replica"), "{error}");
    let health = reader.health().await;
    assert!(health.readable && !health.writable, "{health:?}");
    assert_eq!(contents(&log).await.len(), 3);
    // The replica becomes the primary, as in a failover.
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").query::<()>(&mut replica.client()).unwrap();
    store(&log, batch(3..4)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 1).await), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn misconf_and_noreplicas_are_said_as_such() {
    let server = RedisServer::start(&["--dbfilename", "taken.rdb"]);
    let backend = connect(&server.url()).await;
    let mut client = server.client();
    config(&mut client, "min-replicas-to-write", "1");
    refused_in_every_way(&backend, Code::BackendReadonly).await;
    config(&mut client, "min-replicas-to-write", "0");
    // A snapshot that cannot be written: the name of its file is taken by a folder.
    std::fs::create_dir(server.folder().join("taken.rdb")).unwrap();
    config(&mut client, "save", "3600 1");
    store(&open(&backend, "other").await, batch(0..1)).await.unwrap();
    redis::cmd("BGSAVE").query::<String>(&mut client).unwrap();
    within(async {
        while !redis::cmd("INFO").query::<String>(&mut client).unwrap().contains("rdb_last_bgsave_status:err") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let error = refused_in_every_way(&backend, Code::BackendReadonly).await;
    assert!(error.message().contains("MISCONF"), "{error}");
    let health = backend.health().await;
    assert!(health.notes.iter().any(|note| note.contains("save")), "{health:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_is_said_as_such_and_readers_wait_for_its_end() {
    // Loading 400 keys with a pause after each takes a while.
    let mut server =
        RedisServer::start(&["--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"]);
    let mut client = server.client();
    for key in 0..400 {
        let _: () = client.set(format!("key{key}"), "x".repeat(1000)).unwrap();
    }
    let backend = connect(&server.url()).await;
    let log = open(&backend, "t").await;
    let mut items = tail(&log, Position::START);
    store(&log, batch(0..2)).await.unwrap();
    take(&mut items, 2).await;
    redis::cmd("SAVE").query::<()>(&mut client).unwrap();
    server.kill();
    server.start_without_waiting();
    let mut codes = Vec::new();
    let error = within(async {
        loop {
            match log.append(batch(2..3)).await.unwrap().await {
                Err(error) if error.code() == Code::BackendLoading => break error,
                Err(error) => codes.push(error.code()),
                Ok(_) => panic!("it was never loading; before came {codes:?}"),
            }
        }
    })
    .await;
    assert!(error.retryable(), "{error}");
    assert!(codes.iter().all(|code| *code == Code::BackendUnavailable), "{codes:?}");
    within(async {
        while store(&log, produced(2..3, "p", 0)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(ids(&take(&mut items, 1).await), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrongtype_is_said_as_such_and_harms_no_other_topic() {
    let database = Database::new();
    let backend = connect(&database.url()).await;
    let mut client = database.client();
    let _: () = client.set("t", "text").unwrap();
    let error = refused_in_every_way(&backend, Code::BackendWrongType).await;
    assert!(!error.retryable());
    let settings = TopicSettings::default();
    let created = backend.create_topic(&topic("t"), &settings).await.unwrap_err();
    assert_eq!((created.code(), created.topic_name()), (Code::BackendWrongType, Some("t")));
    let log = open(&backend, "t").await;
    assert_eq!(log.bounds().await.unwrap_err().code(), Code::BackendWrongType);
    assert_eq!(next(&mut tail(&log, Position::START)).await.unwrap_err().code(), Code::BackendWrongType);
    // Two streams are followed, and one turns into something else.
    let (bad, good) = (open(&backend, "bad").await, open(&backend, "good").await);
    let (mut bad_items, mut good_items) = (tail(&bad, Position::START), tail(&good, Position::START));
    store(&bad, batch(0..1)).await.unwrap();
    store(&good, batch(0..1)).await.unwrap();
    take(&mut bad_items, 1).await;
    take(&mut good_items, 1).await;
    let mut pipe = redis::pipe();
    pipe.atomic().del("bad").ignore().set("bad", "text").ignore();
    pipe.query::<()>(&mut client).unwrap();
    assert_eq!(next(&mut bad_items).await.unwrap_err().code(), Code::BackendWrongType);
    store(&good, batch(1..2)).await.unwrap();
    assert_eq!(ids(&take(&mut good_items, 1).await), [1]);
    // The producer's numbers that were refused were not remembered either.
    let _: () = client.del("t").unwrap();
    assert!(!store(&log, produced(0..3, "p", 0)).await.unwrap().duplicate);
}

#[tokio::test(flavor = "multi_thread")]
async fn noauth_wrongpass_and_noperm_are_said_as_such() {
    let server = RedisServer::start(&["--requirepass", "s3cret"]);
    let at = |credentials: &str| format!("redis://{credentials}127.0.0.1:{}", server.port);
    let error = connect_error(&at("")).await;
    assert_eq!(error.code(), Code::BackendDenied);
    assert!(error.message().contains("NOAUTH") && error.message().contains("REDIS_PASSWORD"), "{error}");
    let error = connect_error(&at(":wrong@")).await;
    assert_eq!(error.code(), Code::BackendDenied);
    assert!(error.message().contains("WRONGPASS") && !error.message().contains("wrong@"), "{error}");
    let backend = connect(&at(":s3cret@")).await;
    let log = open(&backend, "t").await;
    store(&log, batch(0..2)).await.unwrap();
    // A user that may only read.
    let mut client = redis::Client::open(at(":s3cret@")).unwrap().get_connection().unwrap();
    let rights = ["reader", "on", ">pw", "~*", "+@read", "+eval_ro", "+multi", "+exec", "+client|unblock"];
    redis::cmd("ACL").arg("SETUSER").arg(&rights).query::<()>(&mut client).unwrap();
    let reader = connect(&at("reader:pw@")).await;
    let error = refused_in_every_way(&reader, Code::BackendDenied).await;
    assert!(!error.retryable() && error.message().contains("NOPERM"), "{error}");
    let mut items = tail(&open(&reader, "t").await, Position::START);
    assert_eq!(ids(&take(&mut items, 2).await), [0, 1]);
    store(&log, batch(2..3)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 1).await), [2]);
    // A user that may see some keys only: reading others ends, reading those goes on.
    let rights = ["reader", "resetkeys", "~t", "~synapse:*"];
    redis::cmd("ACL").arg("SETUSER").arg(&rights).query::<()>(&mut client).unwrap();
    let mut other = tail(&open(&reader, "other").await, Position::START);
    assert_eq!(next(&mut other).await.unwrap_err().code(), Code::BackendDenied);
    store(&log, batch(3..4)).await.unwrap();
    assert_eq!(ids(&take(&mut items, 1).await), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_end_blocked_reads_still_follows_streams() {
    let server = RedisServer::start(&[]);
    let mut client = server.client();
    let rights = ["hub", "on", ">pw", "~*", "+@all", "-client"];
    redis::cmd("ACL").arg("SETUSER").arg(&rights).query::<()>(&mut client).unwrap();
    let backend = connect(&format!("redis://hub:pw@127.0.0.1:{}", server.port)).await;
    let mut followed = Vec::new();
    for name in ["a", "b", "c"] {
        let log = open(&backend, name).await;
        let mut items = tail(&log, Position::START);
        store(&log, batch(0..1)).await.unwrap();
        take(&mut items, 1).await;
        followed.push((log, items));
    }
    for (log, items) in &mut followed {
        store(log, batch(1..2)).await.unwrap();
        assert_eq!(ids(&take(items, 1).await), [1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_redis_or_is_not_there_is_said_as_such() {
    let error = connect_error(&format!("redis://127.0.0.1:{}", crate::server::free_port())).await;
    assert_eq!(error.code(), Code::BackendUnavailable);
    assert_eq!(connect_error("redis://no-such-host.invalid").await.code(), Code::BackendUnavailable);
    assert_eq!(connect_error("redis://:pw@").await.code(), Code::InvalidConfig);
    let server = RedisServer::start(&["--maxclients", "6"]);
    let _first = connect(&server.url()).await;
    let error = connect_error(&server.url()).await;
    assert_eq!(error.code(), Code::BackendUnavailable);
    assert!(error.message().contains("max number of clients"), "{error}");
}

/// Answers everything like a server of this kind.
async fn impostor(answer: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.read(&mut [0; 1024]).await.is_ok_and(|count| count > 0) {
                    _ = stream.write_all(answer).await;
                }
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_too_old_or_no_redis_are_refused() {
    for (answer, code, word) in [
        (&b"*4\r\n$7\r\nversion\r\n$5\r\n6.2.6\r\n$2\r\nid\r\n:3\r\n"[..], Code::Unsupported, "6.2.6"),
        (b"-ERR unknown command `HELLO`, with args beginning with: `2`, \r\n", Code::Unsupported, "7 or later"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Code::BackendUnavailable, "protocol"),
    ] {
        let error = connect_error(&impostor(answer).await).await;
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guarantee_is_what_the_server_is_set_to() {
    for (options, level, text) in [
        (
            &["--appendonly", "yes", "--appendfsync", "always"][..],
            Durability::Synced,
            "redis appendonly=yes appendfsync=always",
        ),
        (&["--appendonly", "yes"], Durability::Stored, "redis appendonly=yes appendfsync=everysec"),
        (&[], Durability::Stored, "redis appendonly=no"),
    ] {
        let server = RedisServer::start(options);
        let backend = connect(&server.url()).await;
        let guarantee = backend.guarantee(Durability::Synced).await.unwrap();
        assert_eq!((guarantee.level, guarantee.text.as_str()), (level, text));
        // A managed server says less.
        let rights = ["hub", "on", ">pw", "~*", "+@all", "-config"];
        redis::cmd("ACL").arg("SETUSER").arg(&rights).query::<()>(&mut server.client()).unwrap();
        let managed = connect(&format!("redis://hub:pw@127.0.0.1:{}", server.port)).await;
        let guarantee = managed.guarantee(Durability::Synced).await.unwrap();
        assert_eq!(guarantee.level, Durability::Stored);
        assert!(text.starts_with(&guarantee.text), "{guarantee:?}");
    }
}
