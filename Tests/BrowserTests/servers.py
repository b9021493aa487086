"""Starts the services that a test needs on private ports, and stops them, also when the test fails."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("GAVELCAST_PROGRAMS", ROOT / ".build" / "debug"))
POSTGRES = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, condition, seconds=30):
    """Waits until `condition` holds, and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def get(url, method="GET", body=None, token=None, headers=None):
    """Returns (status, decoded JSON or text). A status above 399 is no exception."""
    request = urllib.request.Request(url, method=method, headers=dict(headers or {}))
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


class Process:
    def __init__(self, arguments, log, **options):
        self.log = open(log, "ab")
        self.child = subprocess.Popen(arguments, stdout=self.log, stderr=self.log, **options)

    def send(self, number):
        self.child.send_signal(number)

    def stop(self, number=signal.SIGKILL):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.send_signal(number)
        self.child.wait()
        self.log.close()


class Redis:
    def __init__(self, folder):
        self.port, self.folder = free_port(), folder
        self.start()

    def start(self):
        self.process = Process(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder],
            f"{self.folder}/redis.log")
        eventually("Redis answers", lambda: self.call("PING") == "PONG")

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def call(self, *arguments):
        command = ["redis-cli", "-p", str(self.port), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


class Postgres:
    def __init__(self, folder):
        self.port, self.data = free_port(), tempfile.mkdtemp(prefix="gavelcast-", dir="/var/tmp")
        user = {"user": "postgres"} if os.getuid() == 0 else {}
        if user:
            subprocess.run(["chown", "postgres:", self.data], check=True)
        os.chmod(self.data, 0o700)
        subprocess.run(
            [POSTGRES / "initdb", "-D", self.data, "-U", "gavelcast", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"],
            check=True, stdout=subprocess.DEVNULL, cwd="/", **user)
        self.process = Process(
            [POSTGRES / "postgres", "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1",
             "-c", "unix_socket_directories=", "-c", "fsync=off"],
            f"{folder}/postgres.log", cwd="/", **user)
        eventually("PostgreSQL answers", lambda: self.query("SELECT 1") == "1")

    @property
    def url(self):
        return f"postgresql://gavelcast@127.0.0.1:{self.port}/postgres"

    def query(self, statement):
        command = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "gavelcast", "-d", "postgres", "-tAc", statement]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    def stop(self):
        self.process.stop()
        subprocess.run(["rm", "-rf", self.data], check=True)


class Service:
    """The gateway or the bid API."""

    def __init__(self, name, folder, arguments, port=None):
        self.name, self.folder, self.arguments = name, folder, arguments
        self.port, self.admin_port = port or free_port(), free_port()
        self.start()

    def start(self):
        self.process = Process(
            [PROGRAMS / self.name, "--listen", f"127.0.0.1:{self.port}",
             "--admin-listen", f"127.0.0.1:{self.admin_port}", *self.arguments],
            f"{self.folder}/{self.name}.log")
        eventually(f"{self.name} is ready", self.is_ready)

    def is_ready(self):
        try:
            return get(f"http://127.0.0.1:{self.admin_port}/readyz")[0] == 200
        except OSError:
            return False

    def metric(self, name):
        text = get(f"http://127.0.0.1:{self.admin_port}/metrics")[1]
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"
