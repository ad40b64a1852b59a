"""A pipeline's folder, or a name on the Hugging Face hub, as a model: the choice of its kind."""

from __future__ import annotations

from collections.abc import Mapping

from ditexp.model.diffusers_dit import PIPELINE
from ditexp.model.pipelines.dit import DiTPipelineModel
from ditexp.model.pipelines.kinds import kind_of
from ditexp.model.pipelines.loading import read_index
from ditexp.model.pipelines.text import TextPipeline


def open_pipeline(
    *,
    path: str,
    size: int | None = None,
    dtype: str | None = None,
    max_length: int | None = None,
    t5: bool = True,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    arithmetic: str | None = None,
) -> TextPipeline | DiTPipelineModel:
    """The model of the kind that model_index.json names. The settings are those of `TextPipeline`.

    dtype: None is bfloat16. A DiTPipeline has `arithmetic` alone, see `DiTPipelineModel`; None is diffusers'.
    Raises ValueError for a pipeline of an unknown kind and for settings that it does not have, before anything else is
    read.
    """
    class_name = read_index(path)["_class_name"]
    if class_name == PIPELINE:
        others = {"size": size, "dtype": dtype, "max_length": max_length, "guidance": guidance}
        check_absent(others | {"negative_prompt": negative_prompt, "t5": None if t5 else t5})
        return DiTPipelineModel(path=path, arithmetic=arithmetic or "diffusers")
    if arithmetic is not None:
        raise ValueError(
            f"model.arithmetic={arithmetic}: only a DiTPipeline has a choice, this is a {class_name}: leave it out"
        )
    return TextPipeline(
        kind_of(path, class_name),
        path=path,
        size=size,
        dtype=dtype or "bfloat16",
        max_length=max_length,
        t5=t5,
        guidance=guidance,
        negative_prompt=negative_prompt,
    )


def check_absent(settings: Mapping[str, object]) -> None:
    """Raise ValueError for the first of these settings of text-to-image pipelines that is given to a DiTPipeline."""
    remedies = {"dtype": ", and choose precision=bf16", "guidance": ", and choose guidance=cfg"}
    for name, value in settings.items():
        if value is not None:
            raise ValueError(f"model.{name}={value}: a DiTPipeline has no {name}: leave it out{remedies.get(name, '')}")
