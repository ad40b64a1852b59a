"""How a sweep runs: `local` here, cell after cell; submitit_slurm, submitit_local and ray in a job a cell; `plan` not
at all. Each checks every cell before the first one starts.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict

FOLDER = ("hydra.sweep.dir", "hydra.sweep.subdir")  # the keys of a cell's own


class LocalLauncher(BasicLauncher):
    """One cell after another in this process, after all have been checked: what runs is what was checked."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        cells = self.checked(job_overrides, initial_job_idx)
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        returns = []
        for cfg in cells:
            returns.append(run_job(self.task_function, cfg, *FOLDER, self.hydra_context))
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returns

    def checked(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[DictConfig]:
        """Every cell's config after all have been checked, ready to be run."""
        from ditexp.run import sweep

        cells = self.compose(job_overrides, first)
        sweep.check(cells)
        sweep.expect(cells.values())
        return list(cells.values())

    def compose(self, job_overrides: Sequence[Sequence[str]], first: int) -> dict[str, DictConfig]:
        """Every cell's settled config, with its number and folder, under a name: the overrides that not all have."""
        from ditexp.checks import ConfigError
        from ditexp.run import sweep

        if "cells" not in self.config.hydra.callbacks:
            raise ConfigError(f"hydra/launcher={self.config.hydra.runtime.choices['hydra/launcher']} is of ditexp.run")
        if not job_overrides:
            raise ConfigError("the sweep has no cells, since a key has no values: give it one, as steps=10")
        load = self.hydra_context.config_loader.load_sweep_config
        common = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
        cells = {
            " ".join(override for override in overrides if override not in common): load(self.config, list(overrides))
            for overrides in job_overrides
        }
        folder = Path(self.config.hydra.sweep.dir).absolute()  # ${now:} and ${process:} would lead a job to another one
        for number, cfg in enumerate(cells.values(), first):
            with open_dict(cfg):
                cfg.hydra.sweep.dir, cfg.hydra.job.num, cfg.hydra.job.id = str(folder), number, str(number)
        sweep.settle_all(cells)
        return cells


class PlanLauncher(LocalLauncher):
    """Print what every cell would cost, what is cached and what is wrong; run nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ditexp.run import sweep

        sweep.plan(self.compose(job_overrides, initial_job_idx))
        return []


class Job:
    """What a job on a cluster does: run a cell by the very config that was checked, however much later."""

    def __init__(self, launcher: BasicLauncher):
        self.hydra_context, self.task_function = launcher.hydra_context, launcher.task_function
        self.singletons = Singleton.get_state()

    def __call__(self, cfg: DictConfig) -> None:
        setup_globals()
        Singleton.set_state(self.singletons)
        os.chdir(cfg.hydra.runtime.cwd)
        run_job(self.task_function, cfg, *FOLDER, self.hydra_context).return_value  # noqa: B018 raises the job's error

    def checkpoint(self, cfg: DictConfig):
        """What submitit queues when a job's time is up."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, cfg)


class ClusterLauncher(LocalLauncher):
    """Each cell in a job of its own, after all have been checked here; a job that dies costs its own cell only."""

    extra: ClassVar[str]  # of ditexp's, that brings `packages`
    packages: ClassVar[tuple[str, ...]]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from ditexp.checks import ConfigError
        from ditexp.provenance import command
        from ditexp.run import sweep

        if not all(map(importlib.util.find_spec, self.packages)):
            name = self.config.hydra.runtime.choices["hydra/launcher"]
            raise ConfigError(f"hydra/launcher={name} is an extra: pip install 'ditexp[{self.extra}]'")
        setup_globals()
        cells = self.checked(job_overrides, initial_job_idx)
        # Jobs start afresh, and must find every module that this process finds, the one of this class among them.
        self.environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "DITEXP_COMMAND": command()}
        os.environ.update(self.environment)
        logging.basicConfig(format="%(message)s")  # Hydra sets this up only where a job runs
        logging.getLogger("ditexp").setLevel(logging.INFO)
        for cfg, reason in self.run(cells):
            sweep.collect(cfg, reason)
        return []

    def run(self, cells: list[DictConfig]) -> Iterator[tuple[DictConfig, str]]:
        """Submit the cells, and give each as its job ends, with what can be said if it has left no result."""
        raise NotImplementedError


class SubmititLauncher(ClusterLauncher):
    """Jobs of submitit: on Slurm one array of them; with cluster=local processes here, to see whether it all works.

    parameters: submitit's, under the names they have there.
    """

    extra = "slurm"
    packages = ("submitit", "hydra_plugins.hydra_submitit_launcher")

    def __init__(self, *, cluster: str, submitit_folder: str, max_num_timeout: int, **parameters: Any):
        super().__init__()
        self.cluster = cluster
        self.folder = submitit_folder
        self.max_num_timeout = max_num_timeout
        self.parameters = OmegaConf.to_container(OmegaConf.create(parameters))

    def run(self, cells: list[DictConfig]) -> Iterator[tuple[DictConfig, str]]:
        import submitit

        from ditexp.run.sweep import print_line

        executor = submitit.AutoExecutor(
            self.folder, self.cluster, **{f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        )
        executor.update_parameters(**{f"{self.cluster}_{name}": value for name, value in self.parameters.items()})
        jobs = executor.map_array(Job(self), cells)
        print_line("[green]submitted[/] ", f"{len(jobs)}: jobs {jobs[0].job_id} to {jobs[-1].job_id}")
        running = {job.job_id: (cfg, job) for cfg, job in zip(cells, jobs)}
        while running:
            for name in [name for name, (_, job) in running.items() if job.done()]:
                cfg, job = running.pop(name)
                yield cfg, "" if job.exception() is None else last_words(job)
            time.sleep(0.5)


def last_words(job) -> str:
    lines = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
    return "; ".join([f"its job {job.job_id} left no result (state {job.state})", *lines[-1:]])


class RayLauncher(ClusterLauncher):
    """Tasks of Ray: of one that runs already, or of one on this machine that lives as long as the sweep.

    ray: `init` holds arguments of ray.init, `remote` those of ray.remote, for every cell.
    """

    extra = "ray"
    packages = ("ray", "hydra_plugins.hydra_ray_launcher")

    def __init__(self, *, ray: DictConfig):
        super().__init__()
        self.settings = OmegaConf.to_container(ray, resolve=True)

    def run(self, cells: list[DictConfig]) -> Iterator[tuple[DictConfig, str]]:
        from ditexp.checks import ConfigError
        from ditexp.cli.errors import describe
        from ditexp.run.sweep import print_line

        init, remote = self.settings["init"], self.settings["remote"]
        is_own = init["address"] == "local"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if is_own:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home directory
            init = {"include_dashboard": False, "object_store_memory": 100_000_000} | init
        else:  # its workers have an environment of their own
            init = {"runtime_env": {"env_vars": self.environment}} | init
        import ray

        ray.init(**init)
        try:
            for kind in ("cpus", "gpus") if is_own else ():
                wanted, there = remote.get(f"num_{kind}", 0), ray.cluster_resources().get(kind.upper()[:-1], 0)
                if wanted > there:
                    name = f"hydra.launcher.ray.remote.num_{kind}"
                    raise ConfigError(f"{name}={wanted}: this machine has {there:g}, and the sweep would wait for ever")
            job, task = Job(self), ray.remote(**remote)(lambda job, cfg: job(cfg))
            running = {task.remote(job, cfg): cfg for cfg in cells}
            print_line("[green]submitted[/] ", f"{len(running)}: to Ray at {ray.get_runtime_context().gcs_address}")
            while running:
                (task,), _ = ray.wait(list(running))
                try:
                    ray.get(task)
                    reason = ""
                except Exception as error:
                    reason = f"its task left no result: {describe(error)[0]}"
                yield running.pop(task), reason
        finally:
            ray.shutdown()


# Hydra's own plugins for submitit and Ray, which it has imported by now, store configs of the names that ours in
# conf/hydra/launcher have, and Hydra 1.3 would take theirs for schemas of ours.
for name in ("submitit_slurm", "submitit_local", "ray"):
    ConfigStore.instance().repo["hydra"]["launcher"].pop(f"{name}.yaml", None)
