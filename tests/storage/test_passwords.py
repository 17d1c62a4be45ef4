"""Passwords in urls are never shown."""

import random
import time

import pytest

from sklearn_iis.storage._passwords import hide_password


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        (
            "postgresql://me:hunter2@host:5432/runs",
            "postgresql://me:***@host:5432/runs",
        ),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("mysql://me@mail.org:hunter2@host/db", "mysql://me@mail.org:***@host/db"),
        # Not percent-encoded, as they should be.
        ("mysql://me:hun@ter2@host/db", "mysql://me:***@host/db"),
        ("mysql://me:hun@t/er2@host/db?a=b@c", "mysql://me:***@host/db?a=b@c"),
        ("mysql://me:hunt/er2?x@host/db", "mysql://me:***@host/db"),
        ("mysql://me:hun\nter2@host/db", "mysql://me:***@host/db"),
        ("mysql://me@host?password=hunter2&x=1", "mysql://me@host?password=***&x=1"),
        ("mysql://host?sslpassword=hunter2", "mysql://host?sslpassword=***"),
        ("mysql://host?x=1&ssl_Passwd=hunter2", "mysql://host?x=1&ssl_Passwd=***"),
        ("mysql://host?pass%77ord=hunter2", "mysql://host?pass%77ord=***"),
        ("mysql://host?access_token=hunter2", "mysql://host?access_token=***"),
        ("mysql://host?client_secret=hunter2", "mysql://host?client_secret=***"),
        ("mssql://?odbc_connect=UID%3Dme%3BPWD%3Dhunter2", "mssql://?odbc_connect=***"),
        (
            "sqlite:////home/a:b@c/s.db?timeout=1",
            "sqlite:////home/a:b@c/s.db?timeout=1",
        ),
        ("folder/me:x@search.journal", "folder/me:x@search.journal"),
        ("", ""),
    ],
)
def test_passwords_are_hidden(url, hidden):
    assert hide_password(url) == hidden
    assert hide_password(hidden) == hidden


def test_no_text_makes_it_fail():
    rng = random.Random(0)
    for _ in range(2000):
        hide_password("x://" + "".join(rng.choices(":/@?&=%;#\n \0é\ud800a", k=30)))
    begin = time.perf_counter()
    for text in (
        "x://" + ":@" * 50_000,
        "x://?" + "=" * 100_000,
        "://" * 50_000,
        "x://" + "?" * 100_000,
    ):
        hide_password(text)
    assert time.perf_counter() - begin < 5
