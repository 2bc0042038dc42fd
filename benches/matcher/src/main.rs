//! The matcher and a peer on the same rules and events, one process a measurement so that memory can be told.
//!
//! `matcher-bench write SCENARIO RULES FOLDER` writes `rules.jsonl`, with some rules more, and `events.jsonl`.
//! `matcher-bench synapse|quamina FOLDER RULES SECONDS` measures one engine on them and prints one JSON object. The
//! harnesses in other languages, in the folders beside this one, do and print the same.

mod engines;
mod scenarios;

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use engines::Engine;
use serde_json::{Value, json};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => {
            let list: Vec<Value> =
                scenarios::SCENARIOS.iter().map(|one| json!({"name": one.name, "what": one.what})).collect();
            println!("{}", json!(list));
            Ok(())
        }
        ["write", scenario, rules, folder] => write(scenario, rules.parse()?, Path::new(folder)),
        [engine, folder, rules, seconds] => {
            let measure = match *engine {
                "synapse" => measure::<engines::Synapse>,
                "quamina" => measure::<engines::Peer>,
                _ => bail!("there is no engine {engine}"),
            };
            println!("{}", measure(Path::new(folder), rules.parse()?, seconds.parse()?)?);
            Ok(())
        }
        _ => bail!("matcher-bench list | write SCENARIO RULES FOLDER | synapse|quamina FOLDER RULES SECONDS"),
    }
}

/// How many events there are; all of them are matched once a pass.
const EVENTS: usize = 2_000;
/// Of so many events it is printed which rules they match.
const SHOWN: usize = 200;
/// So many rules more are there to be added to a full set, one at a time with an event after each.
const MORE: usize = 200;
/// How long passes go on, before and while they are timed.
const PASSES: Duration = Duration::from_millis(500);

fn write(scenario: &str, rules: usize, folder: &Path) -> Result<()> {
    let scenario = scenarios::find(scenario).with_context(|| format!("there is no scenario {scenario}"))?;
    let mut file = BufWriter::new(File::create(folder.join("rules.jsonl"))?);
    for i in 0..rules + MORE {
        writeln!(file, "{}", (scenario.pattern)(i))?;
    }
    file.flush()?;
    // Spread over all rules, in no order, so that not all that is touched is in the nearest cache.
    let mut file = BufWriter::new(File::create(folder.join("events.jsonl"))?);
    for k in 0..EVENTS {
        writeln!(file, "{}", scenarios::event(k * 7919 % rules))?;
    }
    Ok(file.flush()?)
}

/// Builds and measures. What takes longer than `seconds` is cut off.
fn measure<E: Engine>(folder: &Path, rules: usize, seconds: f64) -> Result<Value> {
    let limit = Duration::from_secs_f64(seconds);
    let events: Vec<String> = lines(&folder.join("events.jsonl"))?.collect::<std::io::Result<_>>()?;
    let mut engine = E::new()?;
    let (mut out, mut added) = (Vec::new(), 0);
    let (before, start) = (resident_bytes(), Instant::now());
    let mut lines = lines(&folder.join("rules.jsonl"))?;
    for rule in lines.by_ref().take(rules) {
        engine.add(added, &rule?).with_context(|| format!("rule {added}"))?;
        added += 1;
        if added % 64 == 0 && start.elapsed() > limit {
            bail!("{added} rules took more than {seconds} s");
        }
    }
    // Some engines do here what they left undone when rules were added.
    engine.matches(events[0].as_bytes(), &mut out)?;
    let build = start.elapsed();
    let bytes = resident_bytes().saturating_sub(before);

    passes(&mut engine, &events, limit)?;
    let match_us = passes(&mut engine, &events, limit)?;
    let matches = shown(&mut engine, &events, limit)?;
    Ok(json!({
        "build_us_per_rule": micros(build) / f64::from(added),
        "bytes_per_rule": bytes as f64 / f64::from(added),
        "match_us": match_us,
        "insert_us": inserts(&mut engine, added, lines, &events[0], limit / 5)?,
        "matches": matches,
    }))
}

/// The rules that the first events match, in order.
fn shown(engine: &mut impl Engine, events: &[String], limit: Duration) -> Result<Vec<Vec<u32>>> {
    let (mut matches, start) = (Vec::new(), Instant::now());
    for event in events.iter().take(SHOWN) {
        let mut ids = Vec::new();
        engine.matches(event.as_bytes(), &mut ids)?;
        ids.sort_unstable();
        matches.push(ids);
        if start.elapsed() > limit {
            break;
        }
    }
    Ok(matches)
}

/// Rules added to a full set, until the next event has seen each.
fn inserts(
    engine: &mut impl Engine,
    mut id: u32,
    rules: impl Iterator<Item = std::io::Result<String>>,
    event: &str,
    limit: Duration,
) -> Result<f64> {
    let (mut out, mut times, start) = (Vec::new(), Vec::new(), Instant::now());
    for rule in rules {
        let rule = rule?;
        let now = Instant::now();
        engine.add(id, &rule)?;
        engine.matches(event.as_bytes(), &mut out)?;
        times.push(micros(now.elapsed()));
        id += 1;
        if start.elapsed() > limit {
            break;
        }
    }
    Ok(median(times))
}

/// Passes over the events until enough time has gone by; the time of an event in the median pass.
fn passes(engine: &mut impl Engine, events: &[String], limit: Duration) -> Result<f64> {
    let (mut out, mut times, start) = (Vec::new(), Vec::new(), Instant::now());
    while start.elapsed() < PASSES {
        let (mut matched, pass) = (0, Instant::now());
        for event in events {
            out.clear();
            engine.matches(event.as_bytes(), &mut out)?;
            matched += 1;
            if matched % 64 == 0 && start.elapsed() > limit {
                break;
            }
        }
        times.push(micros(pass.elapsed()) / f64::from(matched));
    }
    Ok(median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn lines(path: &Path) -> Result<std::io::Lines<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(BufReader::new(file).lines())
}

/// What the process holds in memory; zero where the system does not say.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
