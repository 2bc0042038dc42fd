//! Figure 6: what an idle hub holds in memory, and what idle subscriptions add.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    Case, Session,
    report::{Figure, Section, Series, Target, Unit},
    servers::{Hub, Storage},
};

const TOPIC: &str = "bench";
const SUBSCRIPTIONS: usize = 1000;
/// After this long nothing that a start or a request left behind is under way any more.
const SETTLED: Duration = Duration::from_secs(3);

/// MiB, a value a run.
#[derive(Default)]
struct Found {
    embedded: Series,
    redis: Series,
    grpc: Series,
    sse: Series,
}

pub(super) fn run(session: &Session) -> Result<Section> {
    let found = RefCell::new(Found::default());
    session.rounds(vec![
        Case::new("memory, Redis", || {
            let redis = session.redis()?;
            let idle = settled(&session.hub(Storage::Redis(&redis))?)?;
            found.borrow_mut().redis.0.push(idle);
            Ok(format!("idle {idle:.1} MiB"))
        }),
        Case::new("memory, embedded and SSE", || {
            let hub = session.hub(Storage::Embedded)?;
            let idle = settled(&hub)?;
            let subscriptions = sse(&hub)?;
            let more = settled(&hub)? - idle;
            drop(subscriptions);
            let mut found = found.borrow_mut();
            found.embedded.0.push(idle);
            found.sse.0.push(more);
            Ok(format!("idle {idle:.1} MiB, {SUBSCRIPTIONS} SSE subscriptions {more:.1} MiB more"))
        }),
        Case::new("memory, gRPC", || {
            let hub = session.hub(Storage::Embedded)?;
            let idle = settled(&hub)?;
            let mut subscriptions = grpc(session, &hub)?;
            let more = settled(&hub)? - idle;
            subscriptions.kill()?;
            subscriptions.wait()?;
            found.borrow_mut().grpc.0.push(more);
            Ok(format!("{SUBSCRIPTIONS} gRPC subscriptions {more:.1} MiB more"))
        }),
    ])?;
    let found = found.into_inner();
    let figure = |name: String, measured, most| {
        let target = Target::AtMost(most);
        Figure { name, unit: Unit::Mebibytes, measured, peer: None, target }
    };
    Ok(Section {
        title: "Memory",
        method: format!(
            "Resident memory (`VmRSS`) of the hub {} s after it became ready, and again as long after {SUBSCRIPTIONS} \
             subscriptions of one topic were opened: the more of it. Each SSE subscription has a connection of its own; \
             the gRPC subscriptions share connections as the client does.",
            SETTLED.as_secs()
        ),
        figures: vec![
            figure("idle hub on `embedded`".into(), found.embedded, 30.0),
            figure("idle hub on Redis".into(), found.redis, 30.0),
            figure(format!("{SUBSCRIPTIONS} idle gRPC subscriptions more"), found.grpc, 60.0),
            figure(format!("{SUBSCRIPTIONS} idle SSE subscriptions more"), found.sse, 60.0),
        ],
        costs: Vec::new(),
    })
}

/// The hub's memory once it is idle, in MiB.
fn settled(hub: &Hub) -> Result<f64> {
    std::thread::sleep(SETTLED);
    Ok(hub.server.resident_bytes()? as f64 / f64::from(1 << 20))
}

/// Subscriptions over HTTP, each answered with a stream.
fn sse(hub: &Hub) -> Result<Vec<BufReader<TcpStream>>> {
    let subscribe = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", hub.port))?;
        write!(
            stream,
            "GET /v1/topics/{TOPIC}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )?;
        let (mut stream, mut line) = (BufReader::new(stream), String::new());
        stream.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "a subscription was answered with {line:?}");
        Ok(stream)
    };
    (0..SUBSCRIPTIONS)
        .map(subscribe)
        .collect::<Result<_>>()
        .context("the limit of open files may be too low: ulimit -n 4096")
}

/// A program that holds subscriptions over gRPC; it says so once they are open.
fn grpc(session: &Session, hub: &Hub) -> Result<Child> {
    let count = SUBSCRIPTIONS.to_string();
    let mut command =
        session.synapse(hub, &["subscribe", "--topic", TOPIC, "--subscriptions", &count, "--seconds", "60"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stderr.take().context("no standard error")?).read_line(&mut line)?;
    ensure!(line.trim() == "open", "`synapse bench subscribe` ended early: {line}");
    Ok(child)
}
