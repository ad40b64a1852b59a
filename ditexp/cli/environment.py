"""The values of a composed configuration: environment variables are read once, and every ${...} leads somewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, InterpolationToMissingValueError, OmegaConfBaseException

from ditexp.cli.nodes import Setting

FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:[^{}]*\}")
AS_TYPED = (("hydra", "overrides"), ("hydra", "job", "override_dirname"))  # copies of what the user typed


def read_environment(settings: Iterable[Setting]) -> Iterator[str]:
    """Replace each ${oc.env:...} by what the variable holds now; yield a mistake for each that cannot be read.

    A setting that is a single variable is read as if its text were typed: 512 is a number.
    """
    for setting in settings:
        raw = setting.raw
        if not isinstance(raw, str) or not (raw.startswith("~/") or "oc.env" in raw):
            continue
        if any(setting.path[: len(path)] == path for path in AS_TYPED):
            continue
        if raw.startswith("~/"):  # in a file: in an override, ~ is replaced when the command line is read
            setting.replace(os.path.expanduser(raw))
        else:
            try:
                setting.replace(as_typed(setting) if FROM_ENVIRONMENT.fullmatch(raw) else setting.value())
            except InterpolationResolutionError as error:
                reason = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
                yield (
                    f"{setting.name}={raw}: {reason}; export it, or give a value for where it is not set, "
                    "as in ${oc.env:N,512}"
                )


def as_typed(setting: Setting) -> object:
    text = setting.value()
    try:
        return OmegaConf.create({"value": "${oc.decode:${text}}", "text": text}).value
    except InterpolationResolutionError:  # the text is no value of Hydra's grammar
        return text


def unresolved(settings: Iterable[Setting]) -> Iterator[str]:
    """Yield a mistake for each ${...} that leads nowhere, but not for those that only refer to such a one."""
    wrong = dict(errors_of(settings))
    for name, (value, reason) in wrong.items():
        reference = match[1] if (match := re.fullmatch(r"\$\{([\w.]+)\}", value)) else None
        if reference in wrong and reference != name:
            continue
        if match := re.fullmatch(r"Interpolation key '(\S+)' not found", reason):
            yield dangling(name, match[1])
        else:
            yield f"{name}={value}: {reason}; give it a value"


def dangling(name: str, other: str) -> str:
    return f"{name} refers to {other}, which is not set: give {other}=..., or {name}=..."


def errors_of(settings: Iterable[Setting]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The names of values that cannot be resolved, each with its text and the reason; a missing value is no error."""
    for setting in settings:
        if setting.path[0] != "hydra" and isinstance(setting.raw, str) and "${" in setting.raw:
            try:
                setting.value()
            except InterpolationToMissingValueError:
                pass
            except OmegaConfBaseException as error:
                yield setting.name, (setting.raw, str(error).splitlines()[0])


def set_too_late(hydra_cfg: DictConfig, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a mistake for each variable that Hydra would set after the settings are checked."""
    for name, value in hydra_cfg.job.env_set.items():
        if environment.get(str(name)) != value:
            yield (
                f"hydra.job.env_set.{name}={value} acts after the settings are checked: set it in the shell, "
                f"{name}={value} ditexp ..."
            )
