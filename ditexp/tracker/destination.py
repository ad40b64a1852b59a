"""Where W&B's runs go: what the tracker's settings, W&B's environment variables and its settings files say together.

The tracker's settings come first, then variables, then files, as docs/wandb.md lists them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from ditexp.files.content import digest
from ditexp.terminal.notices import in_line
from ditexp.tracker import service

# Variables that name one run, where ditexp makes many, and the settings that wandb reads from them and its files.
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
VARIABLES = {"run_tags": "WANDB_TAGS", "run_notes": "WANDB_NOTES", "root_dir": "WANDB_DIR"}  # others: by their setting


@dataclass(frozen=True)
class Destination:
    """mode: online, offline or disabled. server: the address by which a server is remembered. page: that of its pages.

    entity: "" for the account's default one. account: a digest of the credentials, "" if there are none. folder: where
    wandb writes its files. group, tags: given for all runs. problem: why nothing can be online, "" if that is chosen.
    """

    mode: str
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
        return {"server": self.server, "entity": entity, "project": self.project}

    def url(self, entity: str) -> str:
        return f"{self.page}/{quote(entity)}/{quote(self.project)}"


def find(*, project: str | None, entity: str | None, mode: str, folder: Path) -> Destination:
    """Ask nobody and nothing on the network. Raises ValueError for values that W&B takes in no run."""
    import wandb

    # WANDB_DISABLED is read by other libraries, and by wandb itself no longer.
    given = {"mode": mode} if mode != "auto" else {"mode": "disabled"} if is_set("WANDB_DISABLED") else {}
    given |= {name: value for name, value in {"project": project, "entity": entity}.items() if value}
    try:
        with reading_settings():
            settings = wandb.setup(service.settings_of_process(**given)).settings
    except (ValueError, wandb.UsageError) as error:
        service.stop_service()  # half of its settings are read
        raise ValueError(in_one_line(error)) from None
    for name in OF_ONE_RUN.values():  # of a settings file
        setattr(settings, name, None)
    if wrong := sorted({*"/\\#?%:"} & {*(settings.entity or "")}):
        raise ValueError(
            f"W&B: an entity's name has no {' '.join(wrong)}, got '{settings.entity}'; correct tracker.entity or "
            "WANDB_ENTITY"
        )
    mode = {"dryrun": "offline", "offline": "offline", "disabled": "disabled"}.get(settings.mode, "online")
    problem = login_problem(settings) if mode == "online" else ""
    server = without_user(wandb.util.api_to_app_url(settings.base_url))
    credentials = settings.api_key or settings.identity_token_file
    return Destination(
        mode="offline" if problem else mode,
        problem=problem,
        server=server,
        page=without_user(settings.app_url),
        entity=settings.entity or "",
        project=settings.project or "ditexp",
        account=digest([server, credentials]) if credentials else "",
        folder=Path(os.environ.get("WANDB_DIR") or folder).expanduser().absolute(),
        group=settings.run_group,
        tags=settings.run_tags or (),
    )


@contextmanager
def reading_settings() -> Iterator[None]:
    """Without variables that name one run or are empty, and without a line of wandb's on each settings file."""
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


def login_problem(settings) -> str:
    """Why wandb has no credentials for its server, or ""."""
    import wandb

    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        return f"the key for {settings.base_url} can't be used ({str(error).rstrip('.')})"
    return "" if known else f"nobody is logged in to {settings.base_url}"


def without_user(url: str) -> str:
    """A server's address in one spelling, without a name and password."""
    parts = urlsplit(url.rstrip("/"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2].lower()).geturl()


def in_one_line(error: Exception) -> str:
    """What wandb says of a value that it doesn't take."""
    import pydantic

    if isinstance(error, pydantic.ValidationError) and (first := error.errors()[0])["loc"]:
        setting, value = str(first["loc"][0]), first["input"]
        value = ",".join(value) if isinstance(value, list) else str(value)
        name = VARIABLES.get(setting, f"WANDB_{setting.upper()}")
        return f"{name}={value[:60]}: {' '.join(first['msg'].removeprefix('Value error, ').split())}"
    text = in_line(" ".join(str(error).split()), 150)
    names = {"project name": "tracker.project or WANDB_PROJECT", "API key": "WANDB_API_KEY"}
    where = next((name for words, name in names.items() if words in text), "W&B's environment variables")
    return f"W&B: {text}; correct {where}"
