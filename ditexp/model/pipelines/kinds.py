"""The kinds of pipelines that can be loaded."""

from __future__ import annotations

from ditexp.model.pipelines.flux import Flux
from ditexp.model.pipelines.flux2 import Flux2, Flux2Klein
from ditexp.model.pipelines.kind import PipelineKind
from ditexp.model.pipelines.qwen_image import QwenImage
from ditexp.model.pipelines.sana import Sana
from ditexp.model.pipelines.sd3 import StableDiffusion3
from ditexp.model.pipelines.z_image import ZImage
from ditexp.terminal.notices import in_line

KINDS: tuple[PipelineKind, ...] = (StableDiffusion3(), Flux(), Flux2(), Flux2Klein(), QwenImage(), ZImage(), Sana())
BY_CLASS: dict[str, PipelineKind] = {name: kind for kind in KINDS for name in kind.pipelines}


def kind_of(path: str, class_name: str) -> PipelineKind:
    """The kind of the pipeline with this class name in its model_index.json. Raises ValueError for an unknown one."""
    if class_name in BY_CLASS:
        return BY_CLASS[class_name]
    given, known = in_line(f"model.path={path}", 60), ", ".join((*(kind.title for kind in KINDS), "DiT"))
    raise ValueError(f"{given} is a {in_line(class_name, 30)}, and ditexp samples {known}: give one of these")
