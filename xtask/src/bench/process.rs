//! Servers under measurement: started, watched through `/proc`, stopped.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Clock ticks a second in `/proc/PID/stat`: what Linux tells programs on every architecture in use.
const TICKS: f64 = 100.0;

/// A server that is stopped when it goes out of scope.
pub(super) struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts it; what it says goes to `log`, and the end of that into the error when it does not become ready.
    pub(super) fn start(command: &mut Command, log: &std::path::Path, ready: impl Fn() -> bool) -> Result<Self> {
        const DEADLINE: Duration = Duration::from_secs(20);
        let name = command.get_program().to_string_lossy().into_owned();
        let file = fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut server = Self { child, name };
        let start = Instant::now();
        while !ready() {
            let ended = server.child.try_wait()?;
            if ended.is_some() || start.elapsed() > DEADLINE {
                let text = fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(20).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                bail!("{} did not become ready: {}", server.name, tail.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// CPU seconds it has used so far, in all its threads.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        ticks(&format!("/proc/{}/stat", self.child.id()), USER)
    }

    /// Its resident memory now, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().next().context("no VmRSS")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What a measured server held goes away with its folder: there is nothing to be gained by a gentle stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU seconds of all programs that this one started and that have ended, servers under measurement aside.
pub(super) fn children_cpu_seconds() -> Result<f64> {
    ticks("/proc/self/stat", CHILDREN_USER)
}

const USER: usize = 14;
const CHILDREN_USER: usize = 16;

/// The sum of a user and a system time, which stand side by side; fields are counted from 1 as in proc(5).
fn ticks(file: &str, user: usize) -> Result<f64> {
    let stat = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| -> Result<f64> { Ok(fields.get(number - 3).context("stat is too short")?.parse()?) };
    Ok((field(user)? + field(user + 1)?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_become_ready_is_an_error_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 1"]);
        let Err(error) = Server::start(&mut command, &folder.path().join("log"), || false) else {
            panic!("it started")
        };
        assert!(error.to_string().ends_with("one\ntwo"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_and_processor_time_are_read_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        let server = Server::start(command.arg("60"), &folder.path().join("log"), || true).unwrap();
        assert!(server.resident_bytes().unwrap() > 0);
        assert!(server.cpu_seconds().unwrap() < 60.0);
    }
}
