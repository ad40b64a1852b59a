"""A browser for the tests of the page."""

from __future__ import annotations

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium on the path: install it, or name the executable by CHROMIUM=...")
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: install the dev extra")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
