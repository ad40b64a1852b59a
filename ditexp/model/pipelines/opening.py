"""A pipeline's folder, or a name on the Hugging Face hub, as a model: the choice of its kind."""

from __future__ import annotations

from ditexp.model.pipelines.kinds import kind_of
from ditexp.model.pipelines.loading import read_index
from ditexp.model.pipelines.text import TextPipeline


def open_pipeline(
    *,
    path: str,
    size: int | None = None,
    dtype: str = "bfloat16",
    max_length: int | None = None,
    t5: bool = True,
    guidance: float | None = None,
    negative_prompt: str = "",
) -> TextPipeline:
    """The model of the kind that model_index.json names. The settings are those of `TextPipeline`.

    Raises ValueError for a pipeline of an unknown kind, before anything else is read.
    """
    kind = kind_of(path, read_index(path)["_class_name"])
    return TextPipeline(
        kind,
        path=path,
        size=size,
        dtype=dtype,
        max_length=max_length,
        t5=t5,
        guidance=guidance,
        negative_prompt=negative_prompt,
    )
