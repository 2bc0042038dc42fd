//! Starts what the tests need, on free ports and in temporary folders, and stops it by its process id.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use synapse_hub_client::{Client, ClientOptions, Event, Item, SubscribeOptions, event};
use tempfile::TempDir;

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A child process that is killed when the test ends.
pub(crate) struct Process(Option<Child>);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    fn signal(&self, signal: i32) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// As if the machine had taken it: no chance to clean up.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop; returns its exit code.
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(15);
        let mut child = self.0.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A hub: the real binary.
pub(crate) struct Hub {
    pub(crate) process: Process,
    pub(crate) port: u16,
    /// What it printed until it was ready.
    pub(crate) banner: Vec<String>,
    backend: String,
    settings: Vec<String>,
}

impl Hub {
    pub(crate) fn embedded(folder: &Path) -> Self {
        Self::start(&format!("embedded:{}", folder.display()), &[])
    }

    pub(crate) fn start(backend: &str, settings: &[&str]) -> Self {
        Self::start_at(free_port(), backend, settings)
    }

    pub(crate) fn start_at(port: u16, backend: &str, settings: &[&str]) -> Self {
        let mut command = synapse(&["serve", "--listen", &format!("127.0.0.1:{port}"), "--backend", backend]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = Vec::new();
        while !banner.iter().any(|line: &String| line.contains("synapse subscribe")) {
            banner.push(lines.next().expect("the hub did not start").unwrap());
        }
        // Whatever it prints later must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self { process: Process(Some(child)), port, banner, backend: backend.to_owned(), settings }
    }

    /// The same hub again, at the same address.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        *self = Self::start_at(self.port, &self.backend.clone(), &settings);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url(), ClientOptions::default()).unwrap()
    }

    /// Runs a client command against this hub.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = synapse(arguments);
        command.env("SYNAPSE_URL", self.url()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        output
    }

    /// As [`Hub::run`]; must succeed. Returns standard output.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

pub(crate) fn synapse(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synapse"));
    command.args(arguments).env("NO_COLOR", "1");
    for variable in ["SYNAPSE_URL", "SYNAPSE_CONFIG", "SYNAPSE_SOURCE"] {
        command.env_remove(variable);
    }
    command
}

/// A real Redis server.
pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

impl Redis {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let process = Self::spawn(port, folder.path(), &arguments);
        Self { process, port, folder, arguments }
    }

    /// One that loses nothing that it has answered.
    pub(crate) fn durable() -> Self {
        Self::start(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    fn spawn(port: u16, folder: &Path, arguments: &[String]) -> Process {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
        let child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("redis-server is needed: `cargo xtask test` installs it");
        let process = Process(Some(child));
        let deadline = Instant::now() + PATIENCE;
        let ping = || Command::new("redis-cli").args(["-p", &port.to_string(), "ping"]).output().unwrap().stdout;
        while ping() != b"PONG\n" {
            assert!(Instant::now() < deadline, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        process
    }

    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = Self::spawn(self.port, self.folder.path(), &self.arguments);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The event number `number`.
pub(crate) fn numbered(number: u64) -> Event {
    let mut event = event("tick", &serde_json::json!({"n": number})).unwrap();
    event.id = format!("tick-{number}");
    event
}

pub(crate) fn number(event: &Event) -> u64 {
    serde_json::from_slice::<serde_json::Value>(&event.data).unwrap()["n"].as_u64().unwrap()
}

/// How often each number stands in the topic's whole history.
pub(crate) async fn history(client: &Client, topic: &str) -> HashMap<u64, u32> {
    let mut options = SubscribeOptions::new([topic]);
    options.replay_from = "earliest".into();
    options.until = "latest".into();
    let mut subscription = client.subscribe(options).await.unwrap();
    let mut found = HashMap::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("the replay hangs");
        match next.unwrap() {
            Some(Item::Batch(batch)) => {
                batch.events.iter().for_each(|event| *found.entry(number(event)).or_default() += 1)
            }
            Some(Item::Gap(gap)) => panic!("{gap:?}"),
            Some(Item::Heartbeat) => {}
            Some(Item::Ended(_)) | None => return found,
        }
    }
}

/// Waits until a question is answered with yes.
pub(crate) async fn eventually(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !question().await {
        assert!(Instant::now() < deadline, "it never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An HTTP client.
pub(crate) fn http() -> reqwest::Client {
    // Another test may have said so already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
