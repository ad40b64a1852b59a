"""The published families of models, and the choice of one for a file."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ditexp.checks import choice
from ditexp.files.reading import unfit
from ditexp.model.families.ddt import DDT
from ditexp.model.families.dits import DIT, JIT, LIGHTNINGDIT, REPA, REPA_E, SIT
from ditexp.model.families.family import Family
from ditexp.model.families.flow_maps import IMF, MEANFLOW, PMF
from ditexp.model.families.rae import RAE

FAMILIES = {family.name: family for family in (SIT, DIT, REPA, REPA_E, LIGHTNINGDIT, JIT, RAE, DDT, MEANFLOW, IMF, PMF)}
FIRST, FURTHER = ("blocks", "shared_blocks"), ("decoder_blocks", "u_heads")


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with all blocks as `blocks`: early files of REPA, and iMF's, have others beside or after them."""
    first = len({key.split(".")[1] for key in weights if key.startswith(tuple(f"{kind}." for kind in FIRST))})

    def name(key: str) -> str:
        kind, number, rest = [*key.split(".", 2), "", ""][:3]
        if kind == "shared_blocks":
            return f"blocks.{number}.{rest}"
        is_later = kind in FURTHER and number.isdecimal() and len(number) < 5
        return f"blocks.{first + int(number)}.{rest}" if is_later else key

    return {name(key): value for key, value in weights.items()}


def fitting(weights: Mapping[str, Tensor]) -> list[Family]:
    """The families whose files these weights could be from; of a family and its variant, the variant."""
    found = [family for family in FAMILIES.values() if family.misfit(weights) is None]
    return [family for family in found if family.name not in {other.variant_of for other in found}]


def chosen_family(weights: Mapping[str, Tensor], given: str | None, *, name: str) -> Family:
    """The family that is given, or the one that alone has such weights. name: the file in messages.

    Raises ValueError if the weights contradict it, or fit several or none.
    """
    found = fitting(weights)
    titles = " or ".join(family.title for family in found)
    if given is not None:
        family = FAMILIES[choice("model.family", given, FAMILIES)]
        if wrong := family.misfit(weights):
            remedy = f"it looks like {titles}" if found else "give another file"
            raise unfit(name, f"is not {family.with_article}: {wrong}", remedy)
        return family
    if len(found) == 1:
        return found[0]
    if not found:
        reason = next(filter(None, (family.misfit(weights) for family in FAMILIES.values())))
        raise unfit(name, f"is of no known family: {reason}", f"known are {', '.join(FAMILIES)}")
    names = "|".join(family.name for family in found)
    raise ValueError(f"{name} may be {titles}, whose files look alike: say which by model.family={names}")
