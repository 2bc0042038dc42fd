//! Programs that tests and checks need beside Rust; what is missing is installed, or the error says how to.

use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// The checkers, at pinned versions.
pub(crate) const REQUIREMENTS: &str = ".ci/requirements.txt";

const REDIS_MAJOR_MIN: u32 = 7;

/// Makes sure that `redis-server` 7 or later is there.
pub(crate) fn redis() -> Result<()> {
    if redis_version().is_some_and(|(major, _)| major >= REDIS_MAJOR_MIN) {
        return Ok(());
    }
    println!("redis-server {REDIS_MAJOR_MIN} or later is not here: installing it");
    install("redis-server", "redis")?;
    match redis_version() {
        Some((major, _)) if major >= REDIS_MAJOR_MIN => Ok(()),
        Some((_, version)) => bail!(
            "redis-server is {version}, and the tests need {REDIS_MAJOR_MIN} or later; install one from \
             https://redis.io/docs/latest/operate/oss_and_stack/install/ so that it comes first in PATH"
        ),
        None => bail!("redis-server was installed but does not start; try `redis-server --version`"),
    }
}

/// The major number and the version text of the `redis-server` in PATH.
pub(crate) fn redis_version() -> Option<(u32, String)> {
    let text = shell::output(Command::new("redis-server").arg("--version")).ok()?;
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?.to_owned();
    Some((version.split('.').next()?.parse().ok()?, version))
}

/// Installs a package with apt (as root) or Homebrew.
pub(crate) fn install(debian: &str, homebrew: &str) -> Result<()> {
    let root = shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0");
    if shell::exists("apt-get") && root {
        let apt = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq");
            command
        };
        shell::run(apt().arg("update"))?;
        return shell::run(apt().args(["install", "--yes", "--no-install-recommends", debian]));
    }
    if shell::exists("brew") {
        return shell::run(Command::new("brew").args(["install", homebrew]));
    }
    if shell::exists("apt-get") {
        bail!("{debian} is missing and only root may install it: run `sudo apt-get install {debian}` and try again");
    }
    bail!("{debian} is missing: install it with this system's package manager and try again");
}

/// Makes sure that the nightly toolchain is there, which fuzzing needs for its instrumentation.
pub(crate) fn nightly() -> Result<()> {
    let works = |toolchain: &str| shell::output(Command::new("rustc").args([toolchain, "--version"])).is_ok();
    if works("+nightly") {
        return Ok(());
    }
    let installed =
        shell::run(Command::new("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]));
    if installed.is_err() || !works("+nightly") {
        bail!(
            "fuzzing needs the nightly toolchain, which is not here and could not be installed: `rustup toolchain install nightly`"
        );
    }
    Ok(())
}
