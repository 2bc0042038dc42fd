//! Programs that make load, and what they cost everybody.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    Session,
    process::{self, Server},
    report::{Cost, Series},
    servers::{Hub, Redis},
};
use crate::shell;

/// What one run of a load came to.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) rate: f64,
    pub(super) report: Value,
    hub_us: Option<f64>,
    redis_us: Option<f64>,
    clients_us: Option<f64>,
}

/// All runs of one case.
#[derive(Default)]
pub(super) struct Samples(Vec<Sample>);

impl Samples {
    pub(super) fn push(&mut self, sample: Sample) -> String {
        let shown = format!("{:.0} events/s", sample.rate);
        self.0.push(sample);
        shown
    }

    pub(super) fn rates(&self) -> Series {
        Series(self.0.iter().map(|sample| sample.rate).collect())
    }

    /// A number of the programs' own reports, by JSON pointer.
    pub(super) fn reported(&self, pointer: &str) -> Series {
        Series(self.0.iter().filter_map(|sample| sample.report.pointer(pointer)?.as_f64()).collect())
    }

    pub(super) fn hub_us(&self) -> Series {
        Series(self.0.iter().filter_map(|sample| sample.hub_us).collect())
    }

    pub(super) fn cost(&self, case: impl Into<String>) -> Cost {
        let series = |pick: fn(&Sample) -> Option<f64>| Series(self.0.iter().filter_map(pick).collect());
        Cost {
            case: case.into(),
            hub: self.hub_us(),
            redis: series(|sample| sample.redis_us),
            clients: series(|sample| sample.clients_us),
        }
    }
}

/// Runs a program that ends by printing a JSON object with `events` and `events_per_second`, and measures what it and
/// the servers use meanwhile.
pub(super) fn measure(command: &mut Command, hub: Option<&Hub>, redis: Option<&Redis>) -> Result<Sample> {
    metered(hub, redis, || {
        let text = shell::output(command)?;
        let line = text.lines().last().unwrap_or_default();
        let report: Value = serde_json::from_str(line).with_context(|| format!("no JSON in {line:?}"))?;
        let number = |name: &str| report[name].as_f64().with_context(|| format!("no {name} in {line}"));
        Ok((number("events")?, number("events_per_second")?, report))
    })
}

/// `redis-benchmark -P 64` with one command.
pub(super) fn redis_benchmark(redis: &Redis, events: u64, words: &[Vec<u8>]) -> Result<Sample> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &redis.port.to_string(), "-n", &events.to_string(), "-P", "64", "--csv"]);
    command.args(words.iter().map(|word| OsStr::from_bytes(word)));
    metered(None, Some(redis), || {
        let text = shell::output(&mut command)?;
        let rate = csv_rate(&text).with_context(|| format!("no rate in {text:?}"))?;
        Ok((events as f64, rate, Value::Null))
    })
}

/// The second of eight columns, counted from the right: the first is the command, which may hold anything.
fn csv_rate(text: &str) -> Option<f64> {
    text.lines().last()?.rsplit("\",\"").nth(6)?.parse().ok()
}

fn metered(
    hub: Option<&Hub>,
    redis: Option<&Redis>,
    work: impl FnOnce() -> Result<(f64, f64, Value)>,
) -> Result<Sample> {
    let seconds = |server: Option<&Server>| server.map(Server::cpu_seconds).transpose();
    let (hub, redis) = (hub.map(|hub| &hub.server), redis.map(|redis| &redis.server));
    let before = (seconds(hub)?, seconds(redis)?, process::children_cpu_seconds()?);
    let (events, rate, report) = work()?;
    if events <= 0.0 {
        bail!("the load was empty");
    }
    let micros = |after: f64, before: f64| (after - before) * 1e6 / events;
    Ok(Sample {
        rate,
        report,
        hub_us: seconds(hub)?.zip(before.0).map(|(after, before)| micros(after, before)),
        redis_us: seconds(redis)?.zip(before.1).map(|(after, before)| micros(after, before)),
        clients_us: Some(micros(process::children_cpu_seconds()?, before.2)),
    })
}

impl Session<'_> {
    /// `synapse bench …` against a hub.
    pub(super) fn synapse(&self, hub: &Hub, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.project.binary(self.profile));
        command.env("SYNAPSE_URL", hub.url()).arg("bench").args(arguments).args(["--output", "json"]);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_whatever_the_command_holds() {
        let text = "\"test\",\"rps\",\"avg\",\"min\",\"p50\",\"p95\",\"p99\",\"max\"\n\
            \"XADD k * a {\"b\":\"c\",\"d\":\"e\"}\",\"724637.69\",\"4.2\",\"0.2\",\"4.2\",\"4.5\",\"5.1\",\"5.5\"";
        assert_eq!(csv_rate(text), Some(724_637.69));
        assert_eq!(csv_rate("Could not connect"), None);
    }
}
