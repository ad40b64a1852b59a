"""The HTML page of a report, as a browser reads it."""

from __future__ import annotations

import json
import re
from typing import Any


def data_of(text: str) -> dict[str, Any]:
    """The data that a page's script draws from."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
