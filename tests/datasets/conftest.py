import pytest

from tests.datasets.file_server import FileServer


@pytest.fixture
def server(monkeypatch):
    """An empty FileServer, which is asked without any proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = FileServer()
    yield server
    server.close()
