"""What identifies a sample set: everything that changes pixels, and nothing that doesn't."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from ditexp.checks import ConfigError
from ditexp.core import NUMERICS_VERSION, FlowModel, Guidance, Solver
from ditexp.files.content import digest, sha256
from ditexp.pixels import Pixels
from ditexp.sampler import Sampler
from ditexp.samples.store import images_per_block
from ditexp.values import ADDED


@runtime_checkable
class Identified(Protocol):
    """A component that states its own identity, for example the hash of its weights instead of their path.

    identity: JSON-able facts that determine what it computes.
    """

    @property
    def identity(self) -> dict[str, Any]: ...


def identify(component: object) -> dict[str, Any]:
    """JSON-able facts that determine what a component computes.

    They are its own `identity` if it has one, or else its class and the fields of its dataclass. ditexp's classes go by
    their name alone, so that a module can move; NUMERICS_VERSION covers their code. A class from elsewhere also
    contributes its source, and the content of the files that its settings name. Raises ConfigError for any other
    object.
    """
    if isinstance(component, Identified):
        return component.identity
    cls = type(component)
    if not dataclasses.is_dataclass(component):
        raise ConfigError(f"{cls.__qualname__} must be a dataclass, so that its settings enter the sample set's id")
    facts: dict[str, Any] = {"class": cls.__qualname__}
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)  # as dataclasses.asdict does: vars() lacks slots and init=False defaults
        if ADDED in field.metadata and value == field.default:
            continue
        is_component = dataclasses.is_dataclass(value) or isinstance(value, Identified)
        facts[field.name] = identify(value) if is_component else value
    if not cls.__module__.startswith("ditexp."):
        facts["source"] = source_digest(cls)
        files = {name: value for name, value in facts.items() if isinstance(value, str) and os.path.isfile(value)}
        if files:
            facts["files"] = {name: sha256(value) for name, value in files.items()}
    return facts


def source_digest(cls: type) -> str:
    """A digest of the syntax tree of the class's module: it changes with the code, not with comments or formatting."""
    module = inspect.getmodule(cls)
    if module is None:
        raise ConfigError(f"{cls.__qualname__} has no module whose source could enter the sample set's id")
    return digest({"tree": ast.dump(ast.parse(inspect.getsource(module)))})


def flow_of(*, model: FlowModel, solver: Solver, guidance: Guidance) -> dict[str, Any]:
    """The facts that a grid is optimized for."""
    return {"model": identify(model), "solver": identify(solver), "guidance": identify(guidance)}


def sampling_identity(sampler: Sampler, *, batch_size: int, num_samples: int) -> dict[str, Any]:
    """Everything that changes the pixels of a sample set. Paths, metrics, the tracker and num_samples don't.

    The schedule is left out where it doesn't act, on an adaptive solver, but for an end before t = 1. The batch size
    and the kind of device belong here, because both change the last bits of float32; so does the padding of the
    shrinking batches that an adaptive solver gives to a compiled network.
    """
    is_adaptive, end = sampler.solver.adaptive, sampler.grid[-1]
    return {
        "model": identify(sampler.model),
        "solver": identify(sampler.solver),
        "guidance": identify(sampler.guidance),
        "conditioner": identify(sampler.conditioner),
        "task": identify(sampler.task),
        **({"schedule": identify(sampler.schedule)} if not is_adaptive else {"end": end} if end != 1 else {}),
        "seed": sampler.seed,
        "precision": sampler.precision,
        "compile": "blocks" if sampler.compile is True else sampler.compile,
        "device": sampler.device.type,
        "batch_size": batch_size,
        "block_size": images_per_block(batch_size=batch_size, num_samples=num_samples),
        "image_shape": list(sampler.codec.image_shape),
        "numerics": NUMERICS_VERSION,
        **({} if isinstance(sampler.codec, Pixels) else {"codec": identify(sampler.codec)}),
        **({} if sampler.rounding == "half_up" else {"rounding": sampler.rounding}),
        **({} if sampler.cache is None else {"cache": identify(sampler.cache)}),
        **({"network_batches": "padded"} if sampler.compile and is_adaptive else {}),
    }


def latents_identity(sampler: Sampler, images: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that changes the latents of a sample set. images: the identity of the images decoded from them."""
    left_out = {"image_shape", "codec", "rounding"}.difference(sampler.task.decoding_facts)
    kept = {name: fact for name, fact in images.items() if name not in left_out}
    return kept | {"latent_shape": list(sampler.model.sample_shape)}
