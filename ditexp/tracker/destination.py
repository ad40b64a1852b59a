"""Where W&B's runs go, by the tracker's settings, then W&B's environment variables, then W&B's settings files.

docs/wandb.md lists them.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from ditexp.files.content import digest
from ditexp.terminal.notices import in_line
from ditexp.tracker import service

if TYPE_CHECKING:
    import wandb

Mode = Literal["online", "offline", "disabled"]

# Variables that are meant for one run, but ditexp makes many; and the settings that wandb reads from them.
OF_ONE_RUN = {
    "WANDB_RUN_ID": "run_id",
    "WANDB_NAME": "run_name",
    "WANDB_RESUME": "resume",
    "WANDB_RESUME_FROM": "resume_from",
    "WANDB_FORK_FROM": "fork_from",
    "WANDB_JOB_TYPE": "run_job_type",
    "WANDB_SWEEP_ID": "sweep_id",
    "WANDB_SWEEP_PARAM_PATH": "sweep_param_path",
}
OPTIONS = {"run_group": "group", "run_tags": "tags", "run_notes": "notes"}
VARIABLES = {
    "run_tags": "WANDB_TAGS",
    "run_notes": "WANDB_NOTES",
    "root_dir": "WANDB_DIR",
}  # others have the name of their setting


@dataclass(frozen=True, kw_only=True)
class Options:
    """The tracker's settings, see `ditexp.tracker.wandb.WandbTracker`. folder: absolute."""

    project: str | None = None
    entity: str | None = None
    mode: str = "auto"
    folder: Path
    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None


@dataclass(frozen=True)
class Destination:
    """server: the URL that identifies a server. page: the URL of its web pages.

    problem: why runs cannot be online; empty if they can, or need not be. entity: empty for the account's default.
    account: a digest of the credentials, empty without any. folder: for wandb's files. group, tags: of all runs.
    """

    mode: Mode
    problem: str
    server: str
    page: str
    entity: str
    project: str
    account: str
    folder: Path
    group: str | None
    tags: tuple[str, ...]

    def place(self, entity: str) -> dict[str, str]:
        """What identifies the project on its server."""
        return {"server": self.server, "entity": entity, "project": self.project}

    def url(self, entity: str) -> str:
        """The web page of the project."""
        return f"{self.page}/{quote(entity)}/{quote(self.project)}"


def find(options: Options) -> Destination:
    """Find the destination without using the network. Raises ValueError for values that W&B does not accept."""
    import wandb.util

    # By default wandb has caches, logs and staged files in the home directory. If it cannot write there, its service
    # prints pages of messages.
    for name in ("cache", "data"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
        os.environ.setdefault(f"WANDB_{name.upper()}_DIR", str(options.folder / name))
    # Other libraries read WANDB_DISABLED; wandb itself no longer does.
    mode = options.mode if options.mode != "auto" else "disabled" if is_set("WANDB_DISABLED") else ""
    named = {
        "mode": mode,
        "project": options.project,
        "entity": options.entity,
        "run_group": options.group,
        "run_tags": options.tags,
        "run_notes": options.notes,
    }
    given = {name: value for name, value in named.items() if value}
    try:
        with reading_settings():
            settings = wandb.setup(service.settings_of_process(**given)).settings
    except (ValueError, wandb.errors.UsageError) as error:
        service.stop_service()  # it has read only some of its settings
        raise ValueError(in_one_line(error, given)) from None
    for name in OF_ONE_RUN.values():  # of a settings file
        setattr(settings, name, None)
    if wrong := sorted({*"/\\#?%:"} & {*(settings.entity or "")}):
        raise ValueError(
            f"W&B: an entity's name cannot contain {' '.join(wrong)}, got '{settings.entity}'; correct tracker.entity "
            "or WANDB_ENTITY"
        )
    modes: dict[str, Mode] = {"dryrun": "offline", "offline": "offline", "disabled": "disabled"}
    settled = modes.get(settings.mode, "online")
    problem = login_problem(settings) if settled == "online" else ""
    server = without_user(wandb.util.api_to_app_url(settings.base_url))
    credentials = settings.api_key or settings.identity_token_file
    return Destination(
        mode="offline" if problem else settled,
        problem=problem,
        server=server,
        page=without_user(settings.app_url),
        entity=settings.entity or "",
        project=settings.project or "ditexp",
        account=digest([server, credentials]) if credentials else "",
        folder=Path(os.environ.get("WANDB_DIR") or options.folder).expanduser().absolute(),
        group=settings.run_group,
        tags=settings.run_tags or (),
    )


@contextmanager
def reading_settings() -> Generator[None]:
    """Hide variables that are empty or meant for one run, and the line that wandb prints for each settings file."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    for name, value in ours.items():
        if name in OF_ONE_RUN or not value:
            del os.environ[name]
    os.environ["WANDB_SILENT"] = "true"
    try:
        yield
    finally:
        del os.environ["WANDB_SILENT"]
        os.environ.update(ours)


def is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "t", "true", "y", "yes", "on")


def login_problem(settings: wandb.Settings) -> str:
    """Why wandb has no credentials for its server; empty if it has."""
    import wandb

    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        return f"the key for {settings.base_url} can't be used ({str(error).rstrip('.')})"
    return "" if known else f"nobody is logged in to {settings.base_url}"


def without_user(url: str) -> str:
    """A server's URL in lower case, without user name, password and final slash."""
    parts = urlsplit(url.rstrip("/"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2].lower()).geturl()


def in_one_line(error: Exception, given: Mapping[str, Any]) -> str:
    """Wandb's message about a value that it does not accept. given: settings of wandb that are the tracker's."""
    import pydantic

    if isinstance(error, pydantic.ValidationError) and (first := error.errors()[0])["loc"]:
        setting, value = str(first["loc"][0]), first["input"]
        value = ",".join(value) if isinstance(value, list | tuple) else str(value)
        name = VARIABLES.get(setting, f"WANDB_{setting.upper()}")
        if setting in given:
            name = f"tracker.{OPTIONS.get(setting, setting)}"
        return f"{name}={value[:60]}: {' '.join(first['msg'].removeprefix('Value error, ').split())}"
    text = in_line(" ".join(str(error).split()), 150)
    names = {"project name": "tracker.project or WANDB_PROJECT", "API key": "WANDB_API_KEY"}
    where = next((name for words, name in names.items() if words in text), "W&B's environment variables")
    return f"W&B: {text}; correct {where}"
