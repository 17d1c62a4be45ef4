import pytest

from tests.resume_child import LOG, light_garbage, read_log
from tests.storage.storages import STORAGES


@pytest.fixture(scope="module")
def few_garbage():
    with light_garbage():
        yield


@pytest.fixture(params=STORAGES)
def storage(request, tmp_path):
    return STORAGES[request.param](tmp_path)


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "search.journal"


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Each fit is noted in a file."""
    monkeypatch.setenv(LOG, str(tmp_path / "log"))


@pytest.fixture
def fits(tmp_path, log):
    """Returns what was fitted since it was called the last time."""

    def read_new():
        new = read_log(tmp_path)[read_new.n_before :]
        read_new.n_before += len(new)
        return new

    read_new.n_before = 0
    return read_new
