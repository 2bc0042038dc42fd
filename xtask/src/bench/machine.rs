//! What the figures were measured on.

use std::{fs, process::Command};

use anyhow::{Result, bail};

use crate::{shell, tools};

/// Fails where processes cannot be looked into.
pub(super) fn check() -> Result<()> {
    if !fs::exists("/proc/self/stat")? {
        bail!("the benches read CPU time and memory from /proc and so need Linux");
    }
    Ok(())
}

/// Lines that describe the machine and the programs.
pub(super) fn description() -> Vec<(&'static str, String)> {
    let memory = line_value("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut command = Command::new("git");
    let commit = shell::output(command.args(["describe", "--always", "--dirty", "--abbrev=12"]));
    let version =
        |program: &str, argument: &str| shell::output(Command::new(program).arg(argument)).unwrap_or_default();
    vec![
        ("processor", line_value("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into())),
        ("cores", cores.to_string()),
        ("memory", format!("{} GiB", memory.unwrap_or_default() >> 20)),
        ("kernel", version("uname", "-sr")),
        ("Rust", version("rustc", "--version")),
        ("Redis", tools::redis_version().map_or_else(String::new, |(_, version)| version)),
        ("Python", version("python3", "--version")),
        ("commit", commit.unwrap_or_default()),
    ]
}

/// The value of a `name: value` line.
fn line_value(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
    Some(value.trim().into())
}
