"""Cards of diffusion transformers: the family, the architecture, the weights, and what sampling from them needs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ditexp.checkpoint.container import Container, read_checkpoint
from ditexp.checkpoint.networks import NotOne, anchor_of, networks
from ditexp.checkpoint.weights import ANCHORS, Weights, weights_of
from ditexp.inspect.facts import Card, file_facts
from ditexp.model.architecture import NoDiT
from ditexp.model.claim import correlation
from ditexp.model.contents import Training, training_of
from ditexp.model.families.dits import SIT
from ditexp.model.families.family import Family
from ditexp.model.families.flow_maps import RECIPES
from ditexp.model.families.known import FAMILIES, fitting, renamed
from ditexp.model.loading import Misfit, load_network, without_values
from ditexp.model.published import SIZES
from ditexp.terminal.notices import in_line

ARGUMENTS = 40  # training arguments that a card shows
ALONE = {"rae": "guidance=none "}  # a preset that guides by a weaker model, which a look at samples does not need


def card_of_transformer(path: Path, container: Container) -> Card | None:
    """None for a file without such a network. Raises ValueError for one that is damaged or contradicts itself."""
    anchor = anchor_of(container.state, ANCHORS)
    with suppress(NotOne):  # for which `weights_of` raises an error that names the file
        if not networks(container.state, anchor):
            return None
    found, trained = weights_of(container, anchor=anchor), training_of(container)
    tensors = renamed(found.tensors)
    families = fitting(tensors)
    facts = {**file_facts(container), **facts_of_weights(found)}
    if trained.by_ditexp:
        kind, commands = "a DiT of ditexp train", [command_to_look("model=checkpoint", path)]
    else:
        facts["family"] = [family.name for family in families]
        kind = " or ".join(family.title for family in families) or "a transformer of no known family"
        commands = [command_to_look(f"compat={family.name}", path, ALONE.get(family.name, "")) for family in families]
    family = families[0] if families else None
    facts |= facts_of_network(tensors, family, trained, name=container.name)
    if len(families) > 1 and not trained.by_ditexp:
        names = "|".join(family.name for family in families)
        facts["needs"] = [f"compat={names} or model.family={names}", *facts.get("needs", ())]
    if not trained.by_ditexp:
        facts["evidence"] = list(evidence(tensors, families, found.args))
    if found.args:
        facts["trained with"] = dict(list(found.args.items())[:ARGUMENTS])
    return Card(path, kind, facts, commands)


def command_to_look(choice: str, path: Path, settings: str = "") -> str:
    """What makes a few samples; without scores, it needs no reference."""
    checkpoint = shlex.quote(f"model.checkpoint={path}")
    return f'ditexp run {choice} {checkpoint} {settings}num_samples=16 reference=none "metric=[]"'


def card_of_text_folder(path: Path) -> Card:
    """The folder of a text-conditional DiT that ditexp.train wrote."""
    container = read_checkpoint(path / "model.safetensors", name=str(path / "model.safetensors"))
    found, trained = weights_of(container), training_of(container)
    facts = {**file_facts(container), **facts_of_weights(found)}
    facts |= facts_of_network(found.tensors, None, replace(trained, num_classes=0), name=container.name)
    command = f"ditexp run model=text_dit model.folder={path} condition=prompts"
    return Card(path, "a text-conditional DiT of ditexp train", facts, (command,))


def facts_of_weights(found: Weights) -> dict[str, Any]:
    chosen = {
        "taken": found.which,
        "available": list(found.available),
        "precision": list(found.converted or ["float32"]),
    }
    return {"weights": chosen, **({"beside them": list(found.others[:ARGUMENTS])} if found.others else {})}


def facts_of_network(
    tensors: Mapping[str, Tensor], family: Family | None, trained: Training, *, name: str
) -> dict[str, Any]:
    """Architecture, samples and classes. Raises ValueError for weights that contradict each other.

    What no weight tells, such as the heads of an unusual width, becomes the fact "needs".
    """
    kept = {key: value for key, value in tensors.items() if not (family and family.is_dropped(key))}
    dropped = [key for key in tensors if key not in kept]
    facts: dict[str, Any] = {"parameters": sum(value.numel() for value in kept.values())}
    if dropped:
        facts["dropped"] = {"tensors": len(dropped), "first": dropped[0]}
    known = family or SIT
    try:
        architecture = known.architecture(tensors, num_heads=trained.num_heads, num_classes=trained.num_classes)
        network = without_values(known.network, architecture)
    except NoDiT as error:
        raise ValueError(f"{name} is not a DiT: {error}") from None
    except ValueError as error:
        return {**facts, "needs": [str(error)]}
    depth, width, patch = network.depth, network.hidden_size, network.patch_size
    channels, side = network.in_channels, network.input_size
    size = SIZES.get((depth, width))
    facts["architecture"] = {
        **({"size": f"{size}/{patch}"} if size else {}),
        "depth": depth,
        "width": width,
        **({"heads": architecture["num_heads"]} if "num_heads" in architecture else {}),
        "patch": patch,
    }
    facts["samples"] = {"pixels" if channels in (1, 3) else "latents": [channels, side, side]}
    if network.num_classes:
        facts["classes"] = {"number": network.num_classes, "null class": network.has_null}
    if known.of_two_times:
        facts["two times"] = "for solver=flow_map, which compat= chooses; steps=1 is one jump from noise to data"
    is_unknown = known.of_two_times and (depth, width, patch) not in RECIPES
    needs = [f"model.{key}, since no published size tells it" for key in known.arguments if is_unknown]
    if channels not in (1, 3):
        needs.append(f"a VAE for latents of {channels} x {side} x {side}, which compat= chooses")
    return facts | ({"needs": needs} if needs else {})


def evidence(tensors: Mapping[str, Tensor], families: Sequence[Family], args: Mapping[str, Any]) -> Iterator[str]:
    """What speaks for and against each family."""
    if len(families) > 1:
        names = " and ".join(family.title for family in families)
        yield f"files of {names} have the same names and shapes"
        if args.get("model"):
            yield f"its training was of model={in_line(str(args['model']), 60)}"
        for family in families:
            if used := family.trained_with(args):
                words = ", ".join(f"{key}={value}" for key, value in used.items())
                yield f"for {family.name}: {words} among the training's arguments"
        yield from trials(tensors, families)
    for family in FAMILIES.values():
        if wrong := family.misfit(tensors):
            yield f"not {family.name}: {wrong}"


def trials(tensors: Mapping[str, Tensor], families: Sequence[Family]) -> Iterator[str]:
    """What a network makes of pure noise, which tells trained networks of these families apart."""
    for family in families:
        kept = {key: value for key, value in tensors.items() if not family.is_dropped(key)}
        try:
            network = load_network(family.network, family.architecture(tensors), kept)
        except (ValueError, Misfit):
            continue
        if family.at_noise:
            time, sign = family.at_noise
            found = correlation(network, time)
            yield (
                f"as a {family.title}, its output for noise has the correlation {found:.2f} with it; a trained "
                f"{family.title}'s has about {sign}"
            )
