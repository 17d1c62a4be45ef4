"""Servers of other projects that tests run for real: PostgreSQL, and optuna-dashboard.

Whatever starts here ends with its `with` block, and with this process, even if killed.
"""

import atexit
import functools
import http.client
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

PATIENCE = 60  # seconds that a server has to start, or to end

# The server takes the place of the shell. Its watcher waits for the end of the input,
# which comes when we close it, or are killed, and then sends the server the signal.
WATCHED = """
exec 3<&0
{ cat <&3; kill -"$1" $$; } >/dev/null 2>&1 &
shift
exec "$@" 3<&- </dev/null
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(command, answers, *, log, signal="TERM", **options):
    """Run a server while in the block, from when `answers()` no longer raises OSError.

    RuntimeError with the end of its log, a path, if it ends before, or does not answer.
    """
    with open(log, "wb") as file:
        server = subprocess.Popen(
            ["sh", "-c", WATCHED, "sh", signal, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = server.poll() is not None
            try:
                if not ended:
                    answers()
                    break
            except OSError:
                pass
            if ended or time.monotonic() > deadline:
                end = Path(log).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{command[0]} does not run:\n{end}")
            time.sleep(0.05)
        yield server
    finally:
        server.stdin.close()
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


# PostgreSQL


def postgresql_programs():
    """Folder of initdb and postgres: that on the PATH, or the newest of Debian."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    return None if newest is None else newest.parent


@contextmanager
def postgresql():
    """Run a PostgreSQL server; yield a function that makes the url of a new database.

    Each call of it makes an empty database. The server listens on 127.0.0.1 only, lets
    anyone in, and its data are gone with the block. Skips where it is not installed.
    """
    driver = pytest.importorskip(
        "psycopg2", reason="needs psycopg2, of the extra tests"
    )
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: initdb is not on the PATH")
    options = {}
    if os.getuid() == 0:  # PostgreSQL refuses to be run by root
        import pwd

        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("needs the user postgres: PostgreSQL is not run by root")
        options = {"user": "postgres", "group": "postgres", "extra_groups": []}
    # Not in pytest's folders: nobody but their owner may enter them, and the path of a
    # socket is limited to about 100 characters.
    with tempfile.TemporaryDirectory(prefix="iis-") as name:
        folder = Path(name)
        options["cwd"] = folder
        if "user" in options:
            shutil.chown(folder, options["user"], options["group"])
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "iis"]
        subprocess.run(
            [*initdb, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            **options,
        )
        port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": folder,
            "fsync": "off",
        }
        command = [programs / "postgres", "-D", folder / "data"]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]

        def execute(statement):
            address = f"host=127.0.0.1 port={port} user=iis dbname=postgres"
            with closing(driver.connect(address)) as connection:
                connection.autocommit = True
                connection.cursor().execute(statement)

        def answers():
            try:
                execute("SELECT 1")
            except driver.OperationalError as error:
                raise ConnectionError(str(error)) from error

        numbers = itertools.count()

        def new_url():
            database = f"test_{next(numbers)}"
            execute(f"CREATE DATABASE {database}")
            return f"postgresql+psycopg2://iis@127.0.0.1:{port}/{database}"

        # The signal asks for a fast shutdown, which does not wait for clients to leave.
        log = folder / "log"
        with running(command, answers, log=log, signal="INT", **options):
            yield new_url


@functools.cache
def _shared_postgresql():
    stack = ExitStack()
    new_url = stack.enter_context(postgresql())
    atexit.register(stack.close)
    return new_url


def new_postgresql_database():
    """Url of a new, empty database in a server that this process starts only once.

    Not a fixture, as each module that imports one has its own instance of it.
    """
    return _shared_postgresql()()


# optuna-dashboard


def get(address, path):
    """GET a path of a server, without any proxy; the body, parsed if it is JSON.

    `address` is `http://host:port`. ConnectionError for any status but 200 and 204.
    """
    return _request(address, "GET", path)


def post(address, path, **values):
    """POST values as JSON, otherwise as :func:`get`."""
    headers = {"Content-Type": "application/json"}
    return _request(address, "POST", path, json.dumps(values), headers)


def _request(address, *request):
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    try:
        connection.request(*request)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    path = request[1]
    if response.status not in (200, 204):
        raise ConnectionError(f"{path}: {response.status} {body[:500]!r}")
    is_json = response.getheader("Content-Type", "").startswith("application/json")
    return json.loads(body) if body and is_json else body


@contextmanager
def dashboard(storage, *arguments):
    """Run optuna-dashboard on a storage; yield its address, `http://127.0.0.1:port`.

    `storage` is what its command takes: the url of a database, or the path of a journal
    file that exists. Skips where it is not installed.
    """
    program = Path(sys.executable).with_name("optuna-dashboard")
    if not program.exists():
        pytest.skip("needs optuna-dashboard, of the extra tests")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [program, "--host", "127.0.0.1", "--port", port, *arguments, storage]
    with tempfile.TemporaryDirectory(prefix="iis-") as folder:
        log = Path(folder, "log")
        with running(command, lambda: get(address, "/api/meta"), log=log):
            yield address
