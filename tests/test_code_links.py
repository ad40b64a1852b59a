"""Links from the documentation to code lead to the line that defines the name."""

from __future__ import annotations

import pytest

from docs.code_links import DOCS, LINK, updated

PAGES = [page for page in sorted(DOCS.glob("*.md")) if LINK.search(page.read_text(encoding="utf-8"))]


def test_the_walk_through_the_code_has_links():
    page = (DOCS / "how_it_is_built.md").read_text(encoding="utf-8")
    assert len(LINK.findall(page)) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_the_line_that_defines_the_name(page):
    text = page.read_text(encoding="utf-8")
    assert updated(text, DOCS) == text, "run `make docs`"


def test_a_name_that_moved_is_found_and_one_that_is_gone_is_refused(tmp_path):
    (tmp_path / "module.py").write_text("X = 1\n\n\nclass A:\n    def f(self):\n        pass\n")
    text = "[`A.f()`](module.py#L1), [`X`](module.py) and [text](module.py#L9)"
    assert updated(text, tmp_path) == "[`A.f()`](module.py#L5), [`X`](module.py#L1) and [text](module.py#L9)"
    with pytest.raises(ValueError, match=r"module\.py does not define A\.g"):
        updated("[`A.g`](module.py#L5)", tmp_path)
    with pytest.raises(ValueError, match=r"gone\.py does not exist"):
        updated("[`A.f`](gone.py#L5)", tmp_path)
