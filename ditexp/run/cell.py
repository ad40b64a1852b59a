"""One point of a sweep: every component built from its configuration and checked, with nothing done yet."""

from __future__ import annotations

import ast
import bisect
import dataclasses
import functools
import inspect
import itertools
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ditexp.checks import ConfigError, is_name
from ditexp.cli.components import instantiate
from ditexp.cli.errors import describe
from ditexp.cli.numbers import not_whole_numbers
from ditexp.core import NUMERICS_VERSION, Comparison, Feature, FlowModel, Labelled, LabelMeaning, Task
from ditexp.evaluate import uncertainty
from ditexp.evaluate.evaluator import Evaluator, protocol_of
from ditexp.files.content import Stamp, digest, sha256, stamp, stamps_below
from ditexp.files.records import read_result
from ditexp.reference import contents_of
from ditexp.run.devices import choose_devices
from ditexp.sampler import PRECISIONS, Sampler
from ditexp.samples.store import SampleStore, images_per_block
from ditexp.terminal.notices import notice

COMPONENTS = ("model", "solver", "schedule", "guidance", "condition", "task")


@dataclass
class Cell:
    cfg: DictConfig
    devices: list[torch.device]
    sampler: Sampler
    store: SampleStore
    evaluator: Evaluator
    comparisons: dict[str, Comparison]
    result_path: Path

    @property
    def id(self) -> str:
        return self.result_path.stem

    def result(self) -> dict | None:
        """The result that is there; None where there is none, or where it is damaged, which is said."""
        try:
            found = read_result(self.result_path)
            if (found["id"], found.get("sample_id"), found["status"]) == (self.id, self.store.id, "done"):
                return found
            wrong = f"{self.result_path} is the result of another cell"
        except FileNotFoundError:
            return None
        except ValueError as error:
            wrong = str(error)
        notice(f"{wrong}: the samples are scored again")
        return None

    @property
    def grid_path(self) -> Path:
        return self.result_path.with_suffix(".png")

    @property
    def trajectory_path(self) -> Path:
        """Some samples on their way from noise to data, where the task shows them."""
        return self.result_path.with_suffix(".trajectory.png")

    @property
    def film_path(self) -> Path:
        """Beside the grid, where the task's picture moves."""
        return self.result_path.with_suffix(".gif")


def build(cfg: DictConfig) -> Cell:
    """Build and check all components. Raises ConfigError with every mistake, a line each, before any work."""
    mistakes: list[str] = check_numbers(cfg)

    def attempt(function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception as error:
            mistakes.extend(line for line in describe(error) if line not in mistakes)

    def stop_if_wrong() -> None:
        if mistakes:
            raise ConfigError("\n".join(mistakes))

    parts = {name: attempt(build_component, cfg, name) for name in COMPONENTS}
    feature, reference = attempt(build_component, cfg, "feature"), attempt(instantiate, cfg.reference)
    chosen = {name: attempt(instantiate, node) for name, node in cfg.get("metric", {}).items()}
    comparisons = {name: metric for name, metric in chosen.items() if hasattr(metric, "compare")}
    metrics = {name: metric for name, metric in chosen.items() if name not in comparisons}
    devices = attempt(choose_devices, cfg.devices)
    if parts["model"]:
        for part in filter(None, (parts["guidance"], parts["condition"])):
            attempt(part.check, parts["model"])
    if parts["solver"]:
        for comparison in comparisons.values():
            attempt(comparison.check, parts["solver"])
    stop_if_wrong()

    attempt(settle_steps, cfg)
    stop_if_wrong()
    parts["schedule"] = build_component(cfg, "schedule")  # of so many steps
    bound = attempt(bind, cfg, parts, devices[0])
    stop_if_wrong()
    sampler, store = bound
    if not isinstance(sampler.task, Task):
        name = type(sampler.task).__name__
        mistakes.append(f"task: {name} has no units(indices), which tells dependent samples: inherit it from core.Task")
    if hasattr(sampler.task, "check"):
        attempt(sampler.task.check, sampler)
    if cfg.num_samples < (least := getattr(sampler.task, "least_samples", 1)):
        mistakes.append(f"num_samples={cfg.num_samples}: this task takes {least} or more")
    evaluator = Evaluator(feature, reference, metrics, protocol_of(cfg))
    mistakes.extend(evaluator.mistakes(store, cfg.num_samples))
    stop_if_wrong()

    judged_by = {
        "sample_id": store.id,
        "num_samples": cfg.num_samples,
        "metrics": {name: identify(metric) for name, metric in chosen.items()},
        "resamples": [cfg.resamples, uncertainty.VERSION] if cfg.resamples else 0,
        "feature": feature and feature.identity,
        "reference": contents_of(reference),
        **evaluator.protocol,
    }
    result_path = Path(cfg.outputs).resolve() / "results" / f"{digest(judged_by)}.json"
    return Cell(cfg, devices, sampler, store, evaluator, comparisons, result_path)


def check_numbers(cfg: DictConfig) -> list[str]:
    """Mistakes in the plain values of the configuration."""
    mistakes = not_whole_numbers(cfg, num_samples=1, batch_size=1, seed=0, resamples=0)
    if cfg.forwards is not None:
        mistakes += not_whole_numbers(cfg, forwards=1)
    if cfg.precision not in PRECISIONS:
        mistakes.append(f"precision={cfg.precision}: choose from {', '.join(PRECISIONS)}")
    if not is_name(str(cfg.study)):
        mistakes.append(f"study={cfg.study}: give a name, without /")
    if not isinstance(cfg.compile, bool):
        mistakes.append(f"compile={cfg.compile}: choose true or false")
    try:
        slice_of(cfg, [])
    except ValueError as error:
        mistakes.append(str(error))
    return mistakes


def slice_of(cfg: DictConfig, blocks: list[int]) -> list[int]:
    """Those of the blocks that this run is to make: slice=2/8 takes every eighth, from the second on."""
    if cfg.slice is None:
        return blocks
    match = re.fullmatch(r"(\d+)/(\d+)", str(cfg.slice))
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"slice={cfg.slice}: give k/n with 1 <= k <= n, such as slice=2/8, or null for all")
    return [block for block in blocks if block % count == number - 1]


def settle_steps(cfg: DictConfig) -> None:
    """Set cfg.steps to the most that cfg.forwards network evaluations a sample pay for, under this solver and guidance.

    Nothing is done without cfg.forwards. Raises ValueError where steps don't act, or where one costs more.
    """
    if cfg.forwards is None:
        return
    parts = {name: build_component(cfg, name) for name in COMPONENTS}
    if parts["solver"].adaptive or "steps" not in cfg.schedule:
        what = "an adaptive solver" if parts["solver"].adaptive else "a schedule without steps"
        raise ValueError(
            f"forwards={cfg.forwards} sets the number of steps, but they don't act on {what}: leave it out"
        )

    def forwards(steps: int) -> float:
        trial = OmegaConf.merge(cfg, {"steps": steps})
        try:
            schedule = build_component(trial, "schedule")
            sampler, _ = bind(trial, parts | {"schedule": schedule}, torch.device("cpu"))
        except ValueError:  # a grid that starts at two steps, or ends before so many
            return 0.0 if steps == 1 else math.inf
        return sampler.evaluations()[1]

    steps = bisect.bisect_right(range(1, cfg.forwards + 1), cfg.forwards, key=forwards)
    if not steps:
        raise ValueError(f"forwards={cfg.forwards} doesn't pay for one step, which takes {forwards(1):g}: give more")
    if (spent := forwards(steps)) < cfg.forwards:
        notice(f"{type(parts['solver']).__name__} spends {spent:g} of forwards={cfg.forwards}: a step more costs more")
    cfg.steps = steps


def build_for_sampling(cfg: DictConfig, device: torch.device) -> tuple[Sampler, SampleStore]:
    """What a worker needs of a cell that has been checked."""
    return bind(cfg, {name: build_component(cfg, name) for name in COMPONENTS}, device)


def flow_of(parts: dict) -> dict:
    """What a grid is optimized for."""
    return {name: identify(parts[name]) for name in ("model", "solver", "guidance")}


def bind(cfg: DictConfig, parts: dict, device: torch.device) -> tuple[Sampler, SampleStore]:
    if hasattr(parts["schedule"], "tuned_to") and not parts["solver"].adaptive:
        parts = parts | {"schedule": parts["schedule"].tuned_to(flow_of(parts))}
    parts = {"conditioner" if name == "condition" else name: part for name, part in parts.items()}
    sampler = Sampler(**parts, seed=cfg.seed, device=device, precision=cfg.precision, compile=cfg.compile)
    samples = Path(cfg.outputs) / "samples"
    facts = {"identity": sampling_identity(cfg, sampler), "label_meaning": label_meaning(sampler)}
    return sampler, SampleStore(samples, num_samples=cfg.num_samples, **facts)


def label_meaning(sampler: Sampler) -> LabelMeaning:
    for part in (sampler.task, sampler.conditioner):
        if isinstance(part, Labelled) and (found := part.label_meaning(sampler.model)):
            return found
    kind = type(sampler.conditioner).__name__
    return LabelMeaning(None, why_not=f"{kind} doesn't say what its labels are: give it a label_meaning, see core.py")


def build_component(cfg: DictConfig, name: str):
    """A component; one that loads weights once a process, so that the cells of a sweep share it."""
    node = cfg[name]
    if name in ("model", "feature") and node is not None:
        return shared(node)
    if name == "guidance" and "weak" in node:  # autoguidance's second model
        rest = OmegaConf.masked_copy(node, [key for key in node if key != "weak"])
        try:
            weak = shared(node.weak)
        except ValueError as error:
            raise ValueError(f"guidance.weak: {error}") from None
        return instantiate(rest, _partial_=True)(weak=weak)
    return instantiate(node)


def shared(node: DictConfig) -> FlowModel | Feature:
    list(node.items())  # raises for a missing value, which here is still known by its whole name
    return load(OmegaConf.to_yaml(node, resolve=True), stamps_of(OmegaConf.to_container(node, resolve=True)))


@functools.lru_cache(maxsize=4)
def load(node: str, files: tuple[Stamp, ...]) -> FlowModel | Feature:
    return instantiate(OmegaConf.create(node))


def stamps_of(value) -> tuple[Stamp, ...]:
    """Of all files that a component's settings name, so that one with other content is loaded anew."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return tuple(itertools.chain.from_iterable(map(stamps_of, inner)))
    if not isinstance(value, str) or not os.path.exists(value):
        return ()
    return tuple(stamps_below(value)) if os.path.isdir(value) else (stamp(value),)


def sampling_identity(cfg: DictConfig, sampler: Sampler) -> dict:
    """Everything that changes pixels, and nothing that doesn't (paths, metrics, tracker, num_samples).

    The batch shape and the kind of device are in it, since both change the last bits of float32. A compiled network's
    batches are padded where an adaptive solver shrinks them.
    """
    padded = {"network_batches": "padded"} if cfg.compile and sampler.solver.adaptive else {}
    parts = ["model", "solver", "guidance", "conditioner", "task"]
    if not sampler.solver.adaptive:
        parts.append("schedule")
    return {name: identify(getattr(sampler, name)) for name in parts} | {
        "seed": cfg.seed,
        "precision": cfg.precision,
        "compile": cfg.compile,
        "device": sampler.device.type,
        "batch_size": cfg.batch_size,
        "block_size": images_per_block(batch_size=cfg.batch_size, num_samples=cfg.num_samples),
        "image_shape": list(sampler.model.image_shape),
        "numerics": NUMERICS_VERSION,
        **padded,
    }


def identify(component) -> dict:
    """JSON-able facts that determine what a component computes; for code that isn't ditexp's, its source too."""
    if identity := getattr(component, "identity", None):
        return identity
    cls = type(component)
    if not dataclasses.is_dataclass(component):
        raise ConfigError(f"{cls.__qualname__} must be a dataclass, so that its settings enter the sample set's id")
    identity = {"class": f"{cls.__module__}.{cls.__qualname__}"}
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        is_component = dataclasses.is_dataclass(value) or hasattr(value, "identity")
        identity[field.name] = identify(value) if is_component else value
    if not cls.__module__.startswith("ditexp."):
        # ditexp's own numerics are versioned by hand (NUMERICS_VERSION); a user's file by its syntax tree, so that
        # an edited solver never passes for the old one, while comments and formatting don't matter.
        identity["source"] = digest({"tree": ast.dump(ast.parse(inspect.getsource(inspect.getmodule(cls))))})
        named = {name: value for name, value in identity.items() if isinstance(value, str) and os.path.isfile(value)}
        if named:
            identity["files"] = {name: sha256(value) for name, value in named.items()}
    return identity
