"""The table of common mistakes in docs/first_sweep.md: each gets the answer on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "first_sweep.md").read_text()
MISTAKES = re.findall(r"^\| (.*`.*|a file .*) \| `(.*)` \|$", PAGE, re.MULTILINE)
FILES = {"num_sample:": "# @package _global_\nnum_sample: 32\n", "first line": "steps: 10\n"}


@pytest.mark.parametrize("typed, answer", MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_common_mistake_gets_the_answer_on_the_page(typed, answer, in_process):
    if text := [text for part, text in FILES.items() if part in typed]:
        Path("mine/preset").mkdir(parents=True)
        Path("mine/preset/quick.yaml").write_text(text[0])
        ended = in_process("--config-dir", "mine", "preset=quick")
    elif words := re.findall("`ditexp (.*?)`", typed):
        ended = in_process(*words[0].split(), *["tracker=none"] * words[0].startswith("run "), command="")
    else:
        ended = in_process(re.findall("`(.*?)`", typed)[0])
    assert ended.code == 2
    parts = [re.escape(part.strip()) for part in answer.split("...")]  # the page shortens messages by dots
    assert re.search(".*".join(parts), "\n".join(ended.complaints)), ended.err


def test_the_page_has_common_mistakes():
    assert len(MISTAKES) > 10
