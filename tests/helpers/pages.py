"""The HTML page of a report, as a browser reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LAPTOP = {"viewport": {"width": 1366, "height": 768}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}


def data_of(text: str) -> dict[str, Any]:
    """The data that a page's script draws from."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


@contextmanager
def opened(browser, file: Path, **options: Any) -> Iterator[Any]:
    """A tab with the page; it fails if anything was logged, or asked for but the page itself."""
    context = browser.new_context(**options)
    tab, complaints = context.new_page(), []
    tab.set_default_timeout(120_000)
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: request.url.startswith("data:") or complaints.append(request.url))
    tab.goto(file.as_uri())
    tab.wait_for_function("performance.getEntriesByName('ready').length")
    yield tab
    context.close()
    assert complaints == [file.as_uri()]


def resize(tab: Any, width: int) -> None:
    """The page draws itself anew for a window of this width before its next frame but one."""
    tab.set_viewport_size({"width": width, "height": 800})
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
