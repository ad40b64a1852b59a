"""The subcommands of `ditexp`, with examples. Standard library only, so that `ditexp --help` is fast."""

from __future__ import annotations

import difflib
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

MAX_WIDTH = 100  # longer lines are hard to read


@dataclass(frozen=True)
class Subcommand:
    """One command. ditexp/<name>/__main__.py has its main().

    config: the name of its file in conf/; None for a command without Hydra. summary: a few words. about: two lines.
    examples: commands, each with what it does.
    """

    name: str
    config: str | None
    summary: str
    about: str
    examples: Mapping[str, str]

    def shown_examples(self) -> str:
        """Each example below what it does; a long one is broken as a shell reads it."""
        lines = ["Examples:"]
        for example, about in self.examples.items():
            broken = textwrap.wrap(example, width() - 4, subsequent_indent="    ", break_long_words=False)
            lines += [f"  # {about}", "  " + " \\\n  ".join(broken)]
        return "\n".join(lines)


RUN = Subcommand(
    "run",
    "config",
    "sample and score: one cell, or a sweep with -m",
    "Samples with a trained model and scores the samples: one cell or, with -m, a\n"
    "cell for each combination of values. The same command again makes nothing twice.",
    {
        "ditexp run -m solver=euler,heun steps=10,20": "four cells of the bundled model, with a report",
        "ditexp run model=my.pt vae=sd_vae_ft_ema guidance=cfg guidance.scale=1.5 reference=images feature=inception": (
            "your checkpoint, scored against the images in a folder"
        ),
        "ditexp run -m experiment=digits_steps hydra/launcher=plan": "what a study would cost; runs nothing",
    },
)
REPORT = Subcommand(
    "report",
    "report",
    "make tables, pictures and a page of what was run",
    "Writes the tables, pictures and the page of a sweep, a run or a study, and\nrecommends a cell for a budget.",
    {
        "ditexp report results=outputs/runs/<sweep>": "the report of one sweep again",
        "ditexp report": "an index page of all reports in outputs",
        "ditexp report study=default forwards=40": "all cells of a study, and the best for 40 evaluations an image",
    },
)
EVALUATE = Subcommand(
    "evaluate",
    "evaluate",
    "score images without a model",
    "Scores the images of an .npz file, a folder or a sample set against a reference,\n"
    "as the evaluator that protocol=... names would.",
    {
        "ditexp evaluate images=samples.npz reference=VIRTUAL_imagenet256_labeled.npz": "ADM's FID, IS, P and R",
        "ditexp evaluate images=photos reference=images protocol=clean_fid metric=[fid]": "two folders, as clean-fid",
        "ditexp evaluate images=<id> reference=none metric=[inception_score]": "a sample set of outputs/samples",
    },
)
SAMPLES = Subcommand(
    "samples",
    None,
    "list, verify, export, publish and free sample sets",
    "Looks after the sample sets in outputs/samples: lists them, checks every byte,\n"
    "exports images, sends cards to the Hugging Face hub, and frees what no result needs.",
    {
        "ditexp samples ls outputs=/data/outputs": "a line each: what it is, how large and how complete",
        "ditexp samples export <id> samples.npz": "the images of a set as one file",
        "ditexp samples gc": "what can be deleted; asks before it does",
    },
)
TRAIN = Subcommand(
    "train",
    "train",
    "train a network",
    "Trains a network on one device, with averaged weights. The same command\ncontinues from the last checkpoint.",
    {
        "ditexp train": "the network of the bundled model, on its digits",
        "ditexp train network=dit_s_2 network.input_size=64 network.in_channels=3 network.num_classes=2 data=images "
        "data.size=64": "DiT-S/2 on images of 64 x 64 pixels, in a folder for each class",
        "ditexp train steps=1000 folder=outputs/train/short": "a short training, into a folder of its own",
    },
)
OPTIMIZE = Subcommand(
    "optimize",
    "optimize",
    "find good schedules for a model",
    "Finds times for few steps of a model, solver and guidance. `ditexp run` with the\n"
    "same settings and schedule=optimized uses them.",
    {
        "ditexp optimize solver=heun": "grids of 1 to 10 steps for the bundled model",
        "ditexp optimize -m solver=euler,heun max_steps=8": "the same for two solvers",
        "ditexp run -m solver=heun schedule=uniform,optimized steps=4,8": "compares them with the usual grid",
    },
)
REFERENCE = Subcommand(
    "reference",
    "prepare_reference",
    "prepare the features of reference images once",
    "Extracts the features of reference images once, into one small file that\nreference=<file> reads from then on.",
    {
        "ditexp reference reference=images feature=inception": "of all images below a folder",
        "ditexp reference reference=samples.npz feature=inception out=mine.safetensors": "into a file of your choice",
        "ditexp run reference=mine.safetensors feature=inception model=my.pt": "uses it",
    },
)
INSPECT = Subcommand(
    "inspect",
    None,
    "say what a file is: a checkpoint, a VAE, a reference",
    "Says what files are without sampling: family, architecture and weights of a\n"
    "checkpoint, what it needs, and the command that samples from it.",
    {
        "ditexp inspect SiT-XL-2-256x256.pt": "a checkpoint",
        "ditexp inspect --json *.pt *.npz": "many files, one JSON object a line",
        "ditexp inspect my-vae/": "a folder: a VAE, a pipeline, or weights in shards",
    },
)
ENV = Subcommand(
    "env",
    None,
    "print versions, devices and folders, for bug reports",
    "Prints versions, devices, memory, folders with their free space, and variables of\n"
    "the environment, for bug reports. It prints no secret.",
    {
        "ditexp env": "all of it",
        "ditexp env outputs=/data/outputs": "with the disk of another outputs folder",
        "ditexp env --json": "the same as one JSON object",
    },
)
ALL = (RUN, REPORT, EVALUATE, SAMPLES, TRAIN, OPTIMIZE, REFERENCE, INSPECT, ENV)
SUBCOMMANDS = {each.name: each for each in ALL}

BEGIN: Mapping[str, str] = {
    "ditexp run": "one cell of the bundled model",
    "ditexp run -m solver=euler,heun steps=10,20": "a sweep of four cells",
    "ditexp run --help": "all that can be set and swept",
}


def width() -> int:
    """Columns for help."""
    return min(shutil.get_terminal_size().columns, MAX_WIDTH)


def overview() -> str:
    """What `ditexp --help` prints."""
    lines = ["Samples from trained DiT and rectified-flow models, and scores the samples.", "", "Commands:"]
    lines += [f"  {name:11}{each.summary}" for name, each in SUBCOMMANDS.items()]
    lines += ["", "To begin with:"]
    lines += [f"  {command:45}{about}" for command, about in BEGIN.items()]
    lines += ["", "`ditexp <command> --help` explains one. `python -m ditexp` is the same command."]
    return "\n".join(lines)


def not_a_subcommand(word: str) -> str:
    """The mistake of a first word that names no subcommand, with the remedy."""
    if "=" in word:
        return f"{word}: the command comes first, as in `ditexp run {word}`"
    if word.startswith("-"):
        return f"{word}: the command comes before its flags, as in `ditexp run {word}`; `ditexp --help` lists commands"
    close = difflib.get_close_matches(word, SUBCOMMANDS, n=1)
    hint = f"did you mean `ditexp {close[0]}`?; " if close else ""
    return f"unknown command '{word}'; {hint}choose from {', '.join(SUBCOMMANDS)}"
