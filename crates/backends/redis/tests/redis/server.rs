//! Starts `redis-server` on a free port and in a folder of its own.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The longest that a server may take to come up.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A server that is killed when this is dropped.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    folder: TempDir,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    pub(crate) fn start(options: &[&str]) -> Self {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { port: free_port(), folder: tempfile::tempdir().unwrap(), options, child: None };
        server.start_again();
        server
    }

    /// Starts it on the same port, with the same data and options.
    pub(crate) fn start_again(&mut self) {
        self.start_without_waiting();
        wait_for(self.port);
    }

    pub(crate) fn start_without_waiting(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.child = Some(command(self.port, self.folder.path(), &self.options).spawn().unwrap());
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A connection that knows nothing of Synapse.
    pub(crate) fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(port: u16, folder: &Path, options: &[String]) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]);
    command.arg("--dir").arg(folder).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a server takes connections. It may still refuse commands.
fn wait_for(port: u16) {
    let started = Instant::now();
    while started.elapsed() < START_TIME_MAX {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port))
            && stream.write_all(b"PING\r\n").is_ok()
            && stream.read(&mut [0; 64]).is_ok_and(|count| count > 0)
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("redis-server does not come up on port {port}");
}

/// One server for all tests that do not harm it, each with a database of its own.
pub(crate) struct Database {
    pub(crate) number: u32,
}

struct SharedServer {
    port: u16,
    next: AtomicU32,
    /// When this process ends, however it ends, the pipe closes and the shell kills the server.
    _shell: Child,
    _folder: TempDir,
}

static SHARED: OnceLock<SharedServer> = OnceLock::new();

fn shared() -> &'static SharedServer {
    SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let script = "dir=$1; shift; redis-server \"$@\" --dir \"$dir\" >/dev/null 2>&1 & server=$!; \
                      cat >/dev/null; kill -9 $server; rm -rf \"$dir\"";
        let port_text = port.to_string();
        let shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(folder.path())
            .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--databases", "2000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(port);
        SharedServer { port, next: AtomicU32::new(0), _shell: shell, _folder: folder }
    })
}

impl Database {
    pub(crate) fn new() -> Self {
        let number = shared().next.fetch_add(1, Ordering::Relaxed);
        assert!(number < 2000, "there are more tests than databases");
        Self { number }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/{}", shared().port, self.number)
    }

    /// A connection that knows nothing of Synapse.
    pub(crate) fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }
}
