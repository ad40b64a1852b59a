"""Hydra launchers that run each cell of a sweep in its own job: submitit_slurm, submitit_local and ray."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra_plugins import ditexp_launchers  # as a module: Hydra looks for launchers among a module's names
from omegaconf import DictConfig
from rich.text import Text

if TYPE_CHECKING:
    from ditexp.cli.packed import Packed


class Job:
    """What a job on a cluster does: run a cell with the configuration that was checked, even if files changed since."""

    def __init__(self, launcher: ditexp_launchers.LocalLauncher) -> None:
        self.hydra_context, self.task_function = launcher.hydra_context, launcher.task_function
        self.singletons = Singleton.get_state()

    def __call__(self, cfg: DictConfig) -> None:
        setup_globals()
        Singleton.set_state(self.singletons)
        os.chdir(cfg.hydra.runtime.cwd)
        run_job(self.task_function, cfg, *ditexp_launchers.FOLDER, self.hydra_context).return_value  # noqa: B018 raises the job's error

    def checkpoint(self, cfg: DictConfig) -> object:
        """What submitit queues when the job's time is up."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, cfg)


class ClusterLauncher(ditexp_launchers.LocalLauncher):
    """Runs each cell in its own job. A job that dies loses only its own cell.

    packages: what it needs. extra: the extra of ditexp that installs them.
    """

    runs_here = False
    extra: ClassVar[str]
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
        # Jobs are new processes, and must find every module that this one finds, such as this one.
        self.environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "DITEXP_COMMAND": command()}
        os.environ.update(self.environment)
        logging.basicConfig(format="%(message)s")  # Hydra sets this up only where a job runs
        logging.getLogger("ditexp").setLevel(logging.INFO)
        for folder, reason in self.run(cells):
            sweep.collect(folder, reason)
        return [JobReturn(working_dir=str(folder), status=JobStatus.COMPLETED) for folder in cells]

    def run(self, cells: Packed[Path]) -> Iterator[tuple[Path, str]]:
        """Submit the cells; yield the folder of each when its job ends, with the reason in case it saved no result."""
        raise NotImplementedError


class SubmititLauncher(ClusterLauncher):
    """Runs cells with submitit: in an array of Slurm jobs or, with cluster=local, in processes here, to try it out.

    parameters: of submitit, by submitit's names.
    """

    extra = "slurm"
    packages = ("submitit", "hydra_plugins.hydra_submitit_launcher")

    def __init__(self, *, cluster: str, submitit_folder: str, max_num_timeout: int, **parameters: Any) -> None:
        super().__init__()
        self.cluster = cluster
        self.folder = submitit_folder
        self.max_num_timeout = max_num_timeout
        from ditexp.cli.nodes import resolve

        self.parameters = {name: resolve(value) for name, value in parameters.items()}

    def run(self, cells: Packed[Path]) -> Iterator[tuple[Path, str]]:
        import submitit

        from ditexp.terminal.console import print_line
        from ditexp.terminal.units import plural

        executor = submitit.AutoExecutor(
            self.folder, self.cluster, **{f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        )
        executor.update_parameters(**{f"{self.cluster}_{name}": value for name, value in self.parameters.items()})
        jobs = executor.map_array(Job(self), cells.values())
        print_line(Text("submitted", "green"), f" {plural(len(jobs), 'job')}: {jobs[0].job_id} to {jobs[-1].job_id}")
        running = dict(zip(cells, jobs))
        while running:
            for folder in [folder for folder, job in running.items() if job.done()]:
                job = running.pop(folder)
                yield folder, "" if job.exception() is None else last_words(job)
            time.sleep(0.5)


def last_words(job: Any) -> str:
    """The state of a submitit job that failed, and the last line that it printed."""
    lines = [line.strip() for line in (job.stderr() or "").splitlines() if line.strip()]
    return "; ".join([f"its job {job.job_id} left no result (state {job.state})", *lines[-1:]])


class RayLauncher(ClusterLauncher):
    """Runs cells as tasks of Ray: on a cluster that is running, or on this machine, for as long as the sweep runs.

    ray: `init` has the arguments of ray.init, `remote` those of ray.remote for every cell.
    """

    extra = "ray"
    packages = ("ray", "hydra_plugins.hydra_ray_launcher")

    def __init__(self, *, ray: DictConfig) -> None:
        super().__init__()
        from ditexp.cli.nodes import resolve

        self.init, self.remote = resolve(ray["init"]), resolve(ray["remote"])

    def run(self, cells: Packed[Path]) -> Iterator[tuple[Path, str]]:
        from ditexp.checks import ConfigError
        from ditexp.cli.errors import describe
        from ditexp.terminal.console import print_line
        from ditexp.terminal.units import plural

        init, remote = self.init, self.remote
        is_own = init["address"] == "local"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if is_own:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one to the home directory
            init = {"include_dashboard": False, "object_store_memory": 100_000_000} | init
        else:  # its workers have their own environment
            init = {"runtime_env": {"env_vars": self.environment}} | init
        import ray

        ray.init(**init)
        try:
            for kind in ("cpus", "gpus") if is_own else ():
                wanted, there = remote.get(f"num_{kind}", 0), ray.cluster_resources().get(kind.upper()[:-1], 0)
                if wanted > there:
                    name = f"hydra.launcher.ray.remote.num_{kind}"
                    raise ConfigError(f"{name}={wanted}: this machine has {there:g}, so the sweep would wait forever")
            job, task = ray.put(Job(self)), ray.remote(**remote)(lambda job, cfg: job(cfg))
            running = {task.remote(job, cfg): folder for folder, cfg in cells.items()}
            address = ray.get_runtime_context().gcs_address
            print_line(Text("submitted", "green"), f" {plural(len(running), 'task')} to Ray at {address}")
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


# Hydra has imported its own plugins for submitit and Ray by now, except in a job. They store configs by the same names
# as ours in conf/hydra/launcher, and Hydra 1.3 would use theirs as schemas for ours.
stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
for name in ("submitit_slurm", "submitit_local", "ray"):
    stored.pop(f"{name}.yaml", None)
