"""Whether images can be scored by these metrics. The checks read settings and file headers only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from ditexp.core import Feature, TextFeature
from ditexp.extraction import check_channels
from ditexp.images.source import ImageSource
from ditexp.metric.base import Metric
from ditexp.reference.kinds import Reference, StatisticsFile, gaussians_of
from ditexp.samples.store import SampleStore
from ditexp.values import Prompt


def needed(metrics: Mapping[str, Metric], of_reference: str | None = None) -> set[str]:
    """The network's outputs that metrics use; of_reference="images" or "statistics": only those that need these."""
    return {metric.uses for metric in metrics.values() if of_reference in (None, metric.reference)}


def find_mistakes(
    images: ImageSource,
    count: int,
    *,
    feature: Feature | None,
    reference: Reference | None,
    metrics: Mapping[str, Metric],
    prompts: Sequence[Prompt] = (),
) -> Iterator[str]:
    """What keeps the metrics from scoring the first `count` images, one line each. prompts: of the images."""
    if not metrics:
        return
    if feature is None:
        yield f"{', '.join(metrics)}: no network to judge by: choose feature=inception, dinov2 or digits"
        return
    for name in [name for name, metric in metrics.items() if metric.needs_labels]:
        yield from (f"{name}: {mistake}; or leave {name} out" for mistake in mistakes_of(check_labels, images, feature))
    for name in [name for name, metric in metrics.items() if metric.needs_prompts]:
        yield from (f"{name}: {mistake}" for mistake in mistakes_of(check_prompts, images, feature, prompts))
    needy = [name for name, metric in metrics.items() if metric.reference]
    if reference is None and needy:
        choices = "reference=digits, folder, npz, torchvision or statistics"
        yield f"{', '.join(needy)} {'needs' if len(needy) == 1 else 'need'} a reference: choose {choices}"
        return
    sources = [source for source in (images, reference) if source is not None]
    unreadable = [mistake for source in sources for mistake in mistakes_of(check_headers, source)]
    yield from unreadable
    if unreadable:
        return
    yield from mistakes_of(check_images, images, feature, reference, needed(metrics, "statistics"))
    for name, metric in metrics.items():
        yield from mistakes_of(check_metric, name, metric, count, feature, reference)


def mistakes_of(check: Callable[..., None], *arguments: object) -> list[str]:
    """The message of the ValueError that a check raises, if it raises one."""
    try:
        check(*arguments)
    except ValueError as error:
        return [str(error)]
    return []


def check_headers(source: ImageSource | Reference) -> None:
    """Raise ValueError if the headers of image files show that the images cannot be read."""
    _ = source.image_shape


def check_images(
    images: ImageSource, feature: Feature, reference: Reference | None, statistics: Collection[str]
) -> None:
    """Raise ValueError unless images, network and reference fit together.

    statistics: the network's outputs whose statistics are needed.
    """
    check_channels(images, feature)
    if reference is None:
        return
    if isinstance(reference, StatisticsFile):
        reference.check(feature)
    if reference.image_shape and reference.image_shape != images.image_shape:
        theirs, ours = ("{} x {} x {}".format(*shape) for shape in (reference.image_shape, images.image_shape))
        raise ValueError(
            f"the reference {reference.name} has {theirs} images, {images.name} has {ours}: choose a reference of that "
            "size"
        )
    for output, gaussian in gaussians_of(reference).items():
        size = feature.outputs.get(output, 0)
        if output in statistics and len(gaussian.mean) != size:
            raise ValueError(
                f"the reference {reference.name} has statistics of {len(gaussian.mean)} {output} features, but "
                f"feature={feature.name} gives {size}: choose a reference made with the same network"
            )


def check_metric(name: str, metric: Metric, count: int, feature: Feature, reference: Reference | None) -> None:
    """Raise ValueError unless network and reference give what the metric needs, for `count` images."""
    if metric.uses not in feature.outputs:
        raise ValueError(
            f"{name} needs {metric.uses} features, which feature={feature.name} does not give: choose "
            "feature=inception, or leave it out"
        )
    if reference is None:
        metric.check(fake=count, real=None)
        return
    if metric.reference == "images" and not len(reference):
        raise ValueError(
            f"{name} needs images of the reference, but {reference.name} holds only statistics: choose another, or "
            "leave it out"
        )
    is_known = metric.reference == "statistics" and metric.uses in gaussians_of(reference)
    if metric.reference == "statistics" and not len(reference) and not is_known:
        raise ValueError(f"{name} needs statistics of {metric.uses} features, which {reference.name} lacks")
    metric.check(fake=count, real=None if is_known else len(reference) or None)


def check_prompts(images: ImageSource, feature: Feature, prompts: Sequence[Prompt]) -> None:
    """Raise ValueError unless the images have prompts, and the network embeds them."""
    if not isinstance(feature, TextFeature):
        raise ValueError(f"feature={feature.name} embeds no prompts: choose feature=clip, or leave it out")
    if prompts:
        return
    if isinstance(images, SampleStore):
        remedy = "choose condition=prompts; to an older set of prompts, its command adds them"
    else:
        remedy = "give captions=<file>, or metadata.jsonl in their folder"
    raise ValueError(f"nothing says the prompts of {images.name}: {remedy}")


def check_labels(images: ImageSource, feature: Feature) -> None:
    """Raise ValueError unless the images have labels, and the labels are classes of the network."""
    if not isinstance(images, SampleStore) or not feature.judges_labels:
        raise ValueError("it needs a sample set with labels and a network that knows these labels, feature=digits")
    meaning, count, judge = images.label_meaning, feature.outputs["logits"], f"feature={feature.name}"
    if meaning.classes is None:
        raise ValueError(meaning.why_not)
    if wrong := [label for label in meaning.classes if not 0 <= label < count]:
        raise ValueError(f"there are samples of class {wrong[0]}, but {judge} knows classes 0 to {count - 1}")
    names, known = dict(enumerate(meaning.names)), feature.class_names
    if known and names:
        if others := [label for label in meaning.classes if names.get(label) != known[label]]:
            name = names.get(others[0], "without a name")
            raise ValueError(f"class {others[0]} is {name} to the model, but {known[others[0]]} to {judge}")
    elif meaning.count not in (None, count):
        raise ValueError(
            f"the model has {meaning.count:,} classes and {judge} {count:,}, and without names nothing says which "
            "class is which"
        )
