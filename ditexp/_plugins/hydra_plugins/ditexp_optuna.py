"""A Hydra sweeper that searches: Optuna chooses each cell from the results of those before."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

PATIENCE = 2  # first trials that may be refused before the search is


class OptunaSearch(Sweeper):
    """Runs hydra-optuna-sweeper with objectives that are read from each cell's result.

    objective: a metric or cost, or several. direction: minimize or maximize for each; None: the objective's own.
    n_jobs: trials of a batch. The other parameters are those of the plugin.
    """

    def __init__(
        self,
        *,
        objective: str | Sequence[str],
        direction: str | Sequence[str] | None,
        sampler: DictConfig,
        n_trials: int,
        n_jobs: int,
        max_failure_rate: float,
        storage: str | None,
        study_name: str | None,
        params: DictConfig | None,
    ) -> None:
        self.objectives, self.direction = listed(objective), None if direction is None else listed(direction)
        self.sampler, self.storage, self.study_name, self.params = sampler, storage, study_name, params
        self.n_trials, self.n_jobs, self.max_failure_rate = n_trials, n_jobs, max_failure_rate

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What Hydra calls before `sweep`. config: the sweep's."""
        from ditexp.checks import ConfigError, number, whole
        from ditexp.cli.components import instantiate
        from ditexp.run.search import directions

        if not all(map(importlib.util.find_spec, ("optuna", "hydra_plugins.hydra_optuna_sweeper"))):
            raise ConfigError("hydra/sweeper=optuna is an extra: pip install 'ditexp[optuna]'")
        if config.hydra.runtime.choices["hydra/launcher"] == "plan":
            raise ConfigError(
                "hydra/launcher=plan cannot plan a search, whose cells depend on results: plan one of its cells, "
                "without -m and hydra/sweeper=optuna"
            )
        whole("hydra.sweeper.n_trials", self.n_trials, minimum=1)
        whole("hydra.sweeper.n_jobs", self.n_jobs, minimum=1)
        number("hydra.sweeper.max_failure_rate", self.max_failure_rate, minimum=0, maximum=1)
        toward = directions(self.objectives, self.direction, metrics=config.get("metric") or {})
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

        sampler = instantiate(self.sampler)
        if self.storage:
            stamp(self.storage)
            sampler.reseed_rng()  # a seed would repeat the first random trials of those that are kept
        self.plugin = OptunaSweeperImpl(
            sampler,
            toward,
            self.storage,
            self.study_name,
            self.n_trials,
            self.n_jobs,
            self.max_failure_rate,
            search_space=None,
            custom_search_space=None,
            params=self.params,
        )
        self.plugin.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        assert self.plugin.launcher is not None, "setup makes it"
        self.plugin.launcher = self.trials = Trials(self.plugin.launcher, self.objectives, self.n_trials)
        self.folder = Path(config.hydra.sweep.dir)

    def sweep(self, arguments: list[str]) -> None:
        import optuna

        from ditexp.checks import ConfigError
        from ditexp.cli.overrides import parse

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)  # trials are reported as cells
        self.trials.fixed = {text.partition("=")[0]: text for text in arguments if not parse(text).is_sweep_override()}
        try:
            self.plugin.sweep(arguments)
        except ValueError as error:
            if self.trials.succeeded or isinstance(error, ConfigError):
                raise
            return  # Optuna has no best trial; the report says why each one failed
        self.print_best(self.folder / "optimization_results.yaml")

    def print_best(self, file: Path) -> None:
        """file: what the plugin writes at the end."""
        from rich.text import Text

        from ditexp.cli.nodes import resolve
        from ditexp.terminal.console import print_line

        found = resolve(OmegaConf.load(file))
        for each in found.get("solutions") or [found]:
            reached = each.get("values") or [each["best_value"]]
            values = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.objectives, reached))
            print_line(Text("best", "green"), f" {assigned(each.get('params') or each['best_params'])}: {values}")


class Trials(Launcher):
    """Launches batches of a search with another launcher, and returns the objectives' values of their cells.

    A trial whose settings are refused fails, and the search goes on, unless all first ones are refused. fixed:
    overrides that are not searched, as they were typed, by their keys.
    """

    def __init__(self, launcher: Launcher, objectives: Sequence[str], total: int) -> None:
        self.launcher, self.objectives, self.total = launcher, objectives, total
        self.succeeded, self.num_refused = 0, 0
        self.fixed: Mapping[str, str] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ditexp.checks import ConfigError
        from ditexp.terminal.console import print_line

        batch = [[self.typed(override) for override in overrides] for overrides in job_overrides]
        for number, overrides in enumerate(batch, initial_job_idx + 1):
            chosen = (override for override in overrides if override not in self.fixed.values())
            print_line(f"trial {number} of {self.total}: {' '.join(chosen)}")
        try:
            return [self.valued(each) for each in self.launcher.launch(batch, initial_job_idx)]
        except ConfigError as error:
            if self.num_refused >= PATIENCE and not self.succeeded:
                raise
            if len(job_overrides) == 1:
                return [self.refused(error)]
        numbered = enumerate(job_overrides, initial_job_idx)
        return [each for number, overrides in numbered for each in self.launch([overrides], number)]

    def typed(self, override: str) -> str:
        """An override as it was typed or, of a float, with 12 digits: steps of 0.1 add up to 3.9000000000000004."""
        key, _, value = override.partition("=")
        if key in self.fixed:
            return self.fixed[key]
        return f"{key}={float(value):.12g}" if re.fullmatch(r"-?\d+\.\d{12,}", value) else override

    def valued(self, job: JobReturn) -> JobReturn:
        """The job with the values of its cell. Raises ConfigError if its result has no such numbers."""
        from ditexp.result import read_result
        from ditexp.run.search import values_of

        try:
            values = values_of(read_result(Path(str(job.working_dir)) / "cell.json"), self.objectives)
        except OSError:
            values = None
        self.succeeded += values is not None
        return returned(values)

    def refused(self, error: Exception) -> JobReturn:
        from rich.text import Text

        from ditexp.cli.errors import describe
        from ditexp.terminal.console import print_line

        self.num_refused += 1
        for line in describe(error):
            print_line(Text("refused", "red"), f" {line}")
        return returned(None)


def returned(values: list[float] | None) -> JobReturn:
    """What a job returns: one value, several, or None, which is a failed trial."""
    job = JobReturn(status=JobStatus.COMPLETED)
    job.return_value = values[0] if values and len(values) == 1 else values
    return job


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value]


def assigned(params: Mapping[str, Any]) -> str:
    """The parameters of a trial as overrides."""
    texts = (f"{value:.6g}" if isinstance(value, float) else str(value) for value in params.values())
    return " ".join(f"{name}={text}" for name, text in zip(params, texts))


def stamp(storage: str) -> None:
    """Mark a new database with the version of Optuna's tables.

    Optuna 2.10 does so itself, but never commits it under SQLAlchemy 2, which has no autocommit, and then fails.
    """
    import optuna
    import sqlalchemy
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy.exc import SQLAlchemyError

    from ditexp.checks import ConfigError

    scripts = ScriptDirectory(str(Path(optuna.__file__).parent / "storages/_rdb/alembic"))
    try:
        with sqlalchemy.create_engine(storage).begin() as connection:
            context = MigrationContext.configure(connection)
            if context.get_current_revision() is None:
                context.stamp(scripts, "head")
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"hydra.sweeper.storage={storage}: {reason}: give sqlite:///<file>, or null") from None


# Hydra has imported hydra-optuna-sweeper by now. It stores configs by the same names as ours in conf/hydra/sweeper, and
# Hydra 1.3 would use them as schemas for ours.
stored = ConfigStore.instance().repo.get("hydra", {}).get("sweeper", {})
stored.pop("optuna.yaml", None)
stored.pop("sampler", None)
