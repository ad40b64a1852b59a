"""The network of a published model, or of one that ditexp.train made, from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from torch import Tensor

from ditexp.checks import choice
from ditexp.files.content import found_once
from ditexp.files.reading import LINE
from ditexp.model.architecture import NoDiT
from ditexp.model.claim import contradiction
from ditexp.model.contents import Contents, contents_of, no_such
from ditexp.model.diffusers_dit import DiffusersDiT
from ditexp.model.families.dits import DIT, REPA_E, SIT, STATISTICS
from ditexp.model.families.family import SPAN, Family
from ditexp.model.families.flow_maps import FLOW_MAP
from ditexp.model.families.known import chosen_family, fitting
from ditexp.model.label_network import LabelNetwork
from ditexp.model.loading import Misfit, load_network
from ditexp.model.prediction import Prediction, Velocity
from ditexp.terminal.notices import in_line, notice

ARITHMETIC = {"dit": DIT.network, "diffusers": DiffusersDiT}
# By depth and width; the second line is of iMF and pMF.
SIZES = {(12, 384): "S", (12, 768): "B", (24, 1024): "L", (28, 1152): "XL", (32, 1280): "H"}
SIZES |= {(24, 768): "M", (32, 1024): "L", (48, 1024): "XL", (16, 768): "B", (48, 1280): "H"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """A network, ready for inference on the CPU, and what its file says.

    name: of the setting and the file, for messages. architecture: the network's arguments. given: the choice among the
    file's weights, as the user made it.
    """

    name: str
    family: Family
    network: LabelNetwork
    architecture: dict[str, Any]
    given: str | None
    contents: Contents

    def prediction(self, **settings: Any) -> Prediction:
        """What the network predicts, see Family. settings: the user's, None for those that are not given."""
        args = self.contents.weights.args
        return self.family.prediction(args, settings, side=self.network.input_size, name=self.name)

    def identity(self, prediction: Prediction) -> dict[str, Any]:
        """The facts that determine the model."""
        known = {
            key: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for key, value in self.architecture.items()
        }
        predicts = {} if prediction == Velocity() else prediction.identity
        which = self.contents.weights.which
        is_averaged = self.given is None or which == "ema"
        ema = is_averaged or (which != "model" and which)
        kind = self.network.kind
        return {"model": kind, **known, "ema": ema, "sha256": self.contents.sha256, **predicts}

    def check_claim(self, prediction: Prediction) -> None:
        """Raise ValueError if the network shows that it is of another family than the user says.

        It is evaluated once on this machine, for all processes.
        """
        others = fitting(self.contents.tensors)
        if prediction != self.family.prediction({}, {}, side=self.network.input_size, name=self.name):
            return
        if others == [self.family]:
            return
        heads = self.architecture.get("num_heads")
        facts = f"claim {self.family.name} {heads} {self.contents.sha256} {self.contents.weights.which}"
        rest = [one for one in others if one is not self.family]
        if wrong := found_once(facts, lambda: contradiction(self.network, self.family, rest)):
            raise ValueError(f"{self.name} is not {self.family.with_article}: {wrong}")

    def announce(self, checkpoint: str) -> None:
        """Print what was found in the file, and what of it is used."""
        if self.contents.trained.by_ditexp:
            return
        notice(f"{self.name} is {self.summary}")
        if STATISTICS in self.contents.tensors and self.family is not REPA_E:
            notice(f"{self.name} has the statistics of REPA-E's latents: decode with vae.statistics={checkpoint}")

    @property
    def summary(self) -> str:
        family, network, found = self.family, self.network, self.contents.weights
        width, depth = network.hidden_size, network.depth
        size = SIZES.get((depth, width), f"{depth}x{width}")
        count = sum(value.numel() for value in network.parameters())
        others = ", ".join(one for one in found.available if one != found.which)
        dropped = [key for key in self.contents.tensors if family.is_dropped(key)]
        used = [f"{key}={value}" for key, value in family.trained_with(found.args).items()]
        parts = [
            f"{family.with_article}-{size}/{network.patch_size} of {count / 1e6:.1f} M parameters",
            f"{found.which} weights" + (f" (not {others})" if others else ""),
            *(["timestep frequencies of diffusers, 10000^(-i/127)"] if isinstance(network, DiffusersDiT) else []),
            *([f"without {len(dropped)} tensors ({dropped[0]}, ...)"] if dropped else []),
            *([f"trained with {', '.join(used)}"] if used else []),
        ]
        return ", ".join(parts)


def load_published(
    checkpoint: str,
    *,
    family: str | None,
    weights: str | None,
    num_heads: int | None = None,
    num_classes: int | None = None,
    in_context_start: int | None = None,
    arithmetic: str = "dit",
    of_two_times: bool = False,
    setting: str = "model.checkpoint",
    **sizes: Any,
) -> Published:
    """Read a checkpoint and build its network; for the settings see PretrainedDiT and PretrainedFlowMap.

    setting: the name of the one that is the checkpoint, for messages. of_two_times: whether a model of two times is
    wanted. sizes: settings of single families, None for those that are not given. Raises ValueError for a file that is
    missing, damaged, contains code, or is no such model.
    """
    name = f"{setting}={checkpoint}"
    choice("model.arithmetic", arithmetic, ARITHMETIC)
    contents = contents_of(checkpoint, which=weights, name=name)
    trained, tensors = contents.trained, contents.tensors
    known = family_of(contents, family, name)
    if arithmetic != "dit" and known is not DIT:
        raise ValueError(f"model.arithmetic={arithmetic}: {name} is of {known.title}, not of DiT: leave it out")
    if known.of_two_times != of_two_times:
        raise wrong_times(known, name)
    try:
        architecture = known.architecture(
            tensors,
            num_heads=trained.num_heads if num_heads is None else num_heads,
            num_classes=trained.num_classes if num_classes is None else num_classes,
            in_context_start=in_context_start,
            **sizes,
        )
        kept = {key: value for key, value in tensors.items() if not known.is_dropped(key)}
        network = load_network(ARITHMETIC[arithmetic] if known is DIT else known.network, architecture, kept)
        network.check_file(tensors)
    except (NoDiT, Misfit) as error:
        raise no_such(known, error, name) from None
    except ValueError as error:
        raise ValueError(in_line(f"{name}: {error}", LINE)) from None
    return Published(
        name=name,
        family=known,
        network=network,
        architecture=architecture,
        contents=contents,
        given=weights,
    )


def family_of(contents: Contents, given: str | None, name: str) -> Family:
    """The family that is given, or else known. Raises ValueError if the weights contradict it, or do not decide."""
    own = own_family(contents.tensors, given, name) if contents.trained.by_ditexp else None
    return own or chosen_family(contents.tensors, given or (DIT.name if contents.of_diffusers else None), name=name)


def own_family(tensors: Mapping[str, Tensor], given: str | None, name: str) -> Family | None:
    """The family of a file of ditexp train; None if another one is given that may fit. Raises ValueError."""
    if not any(key.startswith(SPAN) for key in tensors):
        return SIT if given in (None, "sit") else None
    if given not in (None, FLOW_MAP.name):
        raise ValueError(f"model.family={given}: {name} is of {FLOW_MAP.title}: choose model={FLOW_MAP.name}")
    return FLOW_MAP


def wrong_times(family: Family, name: str) -> ValueError:
    if family.of_two_times:
        return ValueError(
            f"{name} is of {family.title}, a model of two times: choose model={family.name}, and solver=flow_map"
        )
    return ValueError(f"{name} is of {family.title}, a model of one time: choose model={family.name}")
