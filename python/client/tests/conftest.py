"""Starts the real hub and a real Redis, on free ports and in temporary folders, and stops them by their process ids."""

import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

BINARY = os.environ.get("SYNAPSE_BIN", str(Path(__file__).resolve().parents[3] / "target" / "debug" / "synapse"))
PATIENCE = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def eventually(what, question):
    deadline = time.monotonic() + PATIENCE
    while not question():
        assert time.monotonic() < deadline, f"it never came to be: {what}"
        time.sleep(0.02)


class Hub:
    def __init__(self, backend, host="127.0.0.1"):
        self.backend = backend
        self.host = host
        self.port = free_port()
        self.process = None
        self.start()

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def start(self):
        command = [BINARY, "serve", "--listen", f"{self.host}:{self.port}", "--backend", self.backend]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually("the hub is ready", self.is_ready)

    def is_ready(self):
        assert self.process.poll() is None, "the hub does not start"
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0


class Redis:
    def __init__(self, folder):
        self.port = free_port()
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually("redis-server is ready", self.is_ready)

    def is_ready(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis_server(tmp_path):
    server = Redis(tmp_path)
    yield server
    server.kill()


@pytest.fixture(params=["embedded", "redis"])
def hub(request, tmp_path):
    """A hub on each backend."""
    if request.param == "embedded":
        backend = f"embedded:{tmp_path / 'data'}"
    else:
        backend = f"redis://127.0.0.1:{request.getfixturevalue('redis_server').port}"
    hub = Hub(backend)
    yield hub
    hub.kill()


@pytest.fixture
def redis_hub(redis_server):
    hub = Hub(f"redis://127.0.0.1:{redis_server.port}")
    yield hub
    hub.kill()


@pytest.fixture
def start_hub():
    """Starts hubs, and stops them."""
    hubs = []

    def start(backend, **options):
        hubs.append(Hub(backend, **options))
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.kill()
