"""A browser for pages."""

import shutil

import pytest


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright, of the extra tests"
    )
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs a browser: chromium is not on the PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"]
        )
        yield browser
        browser.close()
