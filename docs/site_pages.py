"""A hook of MkDocs: the site has the repository's own layout, so that links between its pages stay as they are.

Links to files that are no pages, such as code, lead to the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/*.md", "experiments/*/README.md", "ditexp/weights/README.md")
PICTURES = ("docs/vae/*.jpg", "experiments/*/*.png", "experiments/*/*.gif")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def paths(*patterns: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the studies in the navigation."""
    for section in config.nav or []:
        if "Studies" in section:
            section["Studies"] = paths("experiments/*/README.md")
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Replace what MkDocs found in docs/ by the pages and pictures of the repository; the theme's files stay."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    ours = [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in paths(*PAGES, *PICTURES)]
    return Files([*theme, *ours])


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links that leave the site lead to the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def absolute(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        path = posixpath.normpath(posixpath.join(folder, target))
        if re.match(r"\w+:", target) or files.get_file_from_path(path):
            return link[0]
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{path}{anchor})"

    return LINK.sub(absolute, markdown)
