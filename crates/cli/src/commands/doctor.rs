//! `synapse doctor`: looks at everything between this command and its events, and says what is wrong and what to do.

use std::{
    io::ErrorKind,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use synapse_hub_client::{Client, ClientOptions, InfoResponse, hub_address};
use synapse_hub_server::{Config, ConfigSources, open_backend};
use tokio::net::{TcpStream, lookup_host};

use crate::{
    args::{Doctor, Global, Output},
    failure::Failure,
    output,
};

/// How far clocks may be apart before it is worth a word.
const SKEW_MAX: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    Good,
    Unusual,
    Bad,
}

/// What was found, in the order of looking.
#[derive(Default)]
struct Report(Vec<(Finding, &'static str, String)>);

impl Report {
    fn add(&mut self, finding: Finding, what: &'static str, text: impl Into<String>) {
        self.0.push((finding, what, text.into()));
    }
}

pub(super) async fn run(global: &Global, args: &Doctor) -> Result<(), Failure> {
    let mut report = Report::default();
    if let Some(backend) = &args.backend {
        look_at_backend(backend, &mut report).await;
    }
    let found = hub_address(&global.url)
        .and_then(|address| Client::new(&address, ClientOptions::default()).map(|client| (address, client)));
    match found {
        Ok((address, client)) => {
            if look_at_address(&address, &mut report).await {
                look_at_hub(&client, &mut report).await;
            }
        }
        Err(error) => report.add(Finding::Bad, "address", error.message),
    }
    show(global, &report)?;
    let bad = report.0.iter().filter(|(finding, ..)| *finding == Finding::Bad).count();
    if bad > 0 { Err(Failure::unreachable(format!("{bad} of {} checks failed", report.0.len()))) } else { Ok(()) }
}

fn show(global: &Global, report: &Report) -> Result<(), Failure> {
    if global.output == Output::Json {
        let name = |finding| match finding {
            Finding::Good => "ok",
            Finding::Unusual => "warning",
            Finding::Bad => "error",
        };
        let list: Vec<Value> = report
            .0
            .iter()
            .map(|(finding, what, text)| json!({"check": what, "result": name(*finding), "text": text}))
            .collect();
        return Ok(output::json(&Value::Array(list))?);
    }
    for (finding, what, text) in &report.0 {
        let mark = match finding {
            Finding::Good => output::green("✓"),
            Finding::Unusual => output::yellow("!"),
            Finding::Bad => output::red("✗"),
        };
        output::line(&format!("{mark} {} {text}", output::bold(&format!("{what:<13}"))))?;
    }
    Ok(())
}

/// Whether something listens at the address, which names its port.
async fn look_at_address(url: &str, report: &mut Report) -> bool {
    let without_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let target = without_scheme.split('/').next().unwrap_or_default();
    let addresses: Vec<_> = match lookup_host(target).await {
        Ok(found) => found.collect(),
        Err(error) => {
            let advice = "check the name in --url or SYNAPSE_URL, and that this machine resolves it";
            report.add(Finding::Bad, "address", format!("{target} cannot be resolved ({error}); {advice}"));
            return false;
        }
    };
    match tokio::time::timeout(TIMEOUT, TcpStream::connect(addresses.as_slice())).await {
        Ok(Ok(_)) => {
            report.add(Finding::Good, "address", format!("something listens at {target}"));
            true
        }
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            let advice = "start a hub there (`synapse serve`), or name the right address with --url or SYNAPSE_URL";
            report.add(Finding::Bad, "address", format!("nothing listens at {target}; {advice}"));
            false
        }
        Ok(Err(error)) => {
            report.add(
                Finding::Bad,
                "address",
                format!("{target} cannot be reached ({error}); look at the network in between"),
            );
            false
        }
        Err(_) => {
            let advice = "a firewall may drop the packets, or the machine is down";
            report.add(Finding::Bad, "address", format!("{target} does not answer within {TIMEOUT:?}; {advice}"));
            false
        }
    }
}

async fn look_at_hub(client: &Client, report: &mut Report) {
    let before = SystemTime::now();
    let info = match tokio::time::timeout(TIMEOUT, client.info()).await {
        Ok(Ok(info)) => info,
        Ok(Err(error)) => {
            let advice = "is it a hub? a port that speaks TLS answers no http://";
            report.add(
                Finding::Bad,
                "hub",
                format!("what listens there does not answer as a hub: {}; {advice}", error.message),
            );
            return;
        }
        Err(_) => {
            report.add(
                Finding::Bad,
                "hub",
                format!("no answer within {TIMEOUT:?}; is it a hub, and is it overloaded?"),
            );
            return;
        }
    };
    let round_trip = before.elapsed().unwrap_or_default();
    report.add(Finding::Good, "hub", format!("{} answers in {:.1} ms", info.hub_id, round_trip.as_secs_f64() * 1e3));
    look_at_version(&info, report);
    look_at_clocks(&info, before, round_trip, report);
    let named = if info.backend_version.is_empty() {
        info.backend.clone()
    } else {
        format!("{} {}", info.backend, info.backend_version)
    };
    if info.ready {
        report.add(Finding::Good, "backend", format!("{named} can be read and written"));
    } else {
        let advice =
            "`/readyz?verbose` and the hub's log say more, `synapse doctor --backend ADDRESS` looks at it from here";
        report.add(Finding::Bad, "backend", format!("{named} cannot be used ({}); {advice}", info.notes.join("; ")));
    }
    if info.ready {
        for note in &info.notes {
            report.add(Finding::Unusual, "backend", advised(note));
        }
    }
}

fn look_at_version(info: &InfoResponse, report: &mut Report) {
    let mine = env!("CARGO_PKG_VERSION");
    if info.version == mine {
        report.add(Finding::Good, "version", format!("hub and command line are both {mine}"));
    } else {
        let text = format!(
            "the hub is {}, this command line {mine}; use the same where something does not work",
            info.version
        );
        report.add(Finding::Unusual, "version", text);
    }
}

fn look_at_clocks(info: &InfoResponse, before: SystemTime, round_trip: Duration, report: &mut Report) {
    let mine = before.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + round_trip / 2;
    let mut compare = |what: &'static str, whose: &str, nanos: i64| {
        let apart = Duration::from_nanos(nanos.abs_diff(mine.as_nanos() as i64));
        if apart > SKEW_MAX + round_trip {
            let text = format!(
                "the clock of {whose} and of this machine are {:.1} s apart; replay by time and expiry go by them, so set both by NTP",
                apart.as_secs_f64()
            );
            report.add(Finding::Bad, what, text);
        } else {
            report.add(Finding::Good, what, format!("{whose} and this machine agree within {} ms", apart.as_millis()));
        }
    };
    compare("hub clock", "the hub", info.time_unix_nanos);
    if let Some(nanos) = info.backend_time_unix_nanos {
        compare("backend clock", "the backend", nanos);
    }
}

/// Opens a backend as `synapse serve` would.
async fn look_at_backend(url: &str, report: &mut Report) {
    let overrides = vec![("backend".to_owned(), url.to_owned())];
    let config = match Config::load(ConfigSources { overrides, ..ConfigSources::default() }) {
        Ok(config) => config,
        Err(error) => {
            let advice = "give it as `synapse serve --backend` takes it";
            return report.add(Finding::Bad, "backend", format!("{}; {advice}", error.message()));
        }
    };
    if let Some(folder) = config.backend.embedded_path()
        && let Some(found) = without_log(folder)
    {
        return report.add(found.0, "backend", found.1);
    }
    let backend = match tokio::time::timeout(TIMEOUT * 3, open_backend(&config)).await {
        Ok(Ok(backend)) => backend,
        Ok(Err(error)) => {
            let text = format!("{} [{}]", error.message(), error.code());
            return report.add(Finding::Bad, "backend", advised(&text));
        }
        Err(_) => {
            return report.add(
                Finding::Bad,
                "backend",
                format!(
                    "{} does not answer; is it running, and does a firewall let this machine through?",
                    config.backend
                ),
            );
        }
    };
    let health = backend.health().await;
    let version = health.version.clone().map_or(String::new(), |version| format!(" {version}"));
    let works = health.readable && health.writable;
    let state = if works { "can be read and written" } else { "cannot be used; see the next lines, and its own log" };
    let text = format!("{}{version} {state}", config.backend);
    report.add(if works { Finding::Good } else { Finding::Bad }, "backend", text);
    for note in health.notes {
        report.add(if works { Finding::Unusual } else { Finding::Bad }, "backend", advised(&note));
    }
    for durability in [synapse_hub_server::Durability::Stored, synapse_hub_server::Durability::Synced] {
        if let Ok(guarantee) = backend.guarantee(durability).await {
            let given = guarantee.level >= durability;
            let mut text = format!("{durability:?}: {}", guarantee.text).to_lowercase();
            if !given && config.backend.redis_url().is_some() {
                text.push_str("; not synced: needs `appendonly yes` and `appendfsync always`");
            } else if !given {
                text.push_str("; nothing is kept here: an embedded log or Redis gives more");
            }
            report.add(if given { Finding::Good } else { Finding::Unusual }, "durability", text);
        }
    }
    backend.shutdown(TIMEOUT).await;
}

/// What there is to say of a folder that holds no log yet; opening it would make one.
fn without_log(folder: &Path) -> Option<(Finding, String)> {
    let shown = folder.display();
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries
            .next()
            .is_none()
            .then(|| (Finding::Good, format!("the folder {shown} is empty; `synapse serve` makes a log in it"))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Some((Finding::Good, format!("there is no folder {shown} yet; `synapse serve` makes it")))
        }
        Err(error) => {
            Some((Finding::Bad, format!("the folder {shown} cannot be read ({error}); look at its permissions")))
        }
    }
}

/// What was said of a backend, with what to do where it says nothing of that itself.
fn advised(text: &str) -> String {
    if text.contains(';') {
        return text.to_owned();
    }
    let advice = if text.contains("replica") {
        "use the address of its primary"
    } else if text.contains("disk") {
        "make room on it, or set a retention on topics"
    } else if text.contains("memory") {
        "raise `maxmemory`, or set a retention on topics"
    } else {
        "look at the backend and its log; docs/operations.md says more of each case"
    };
    format!("{text}; {advice}")
}
