"""Overrides, <key>=<value>: each one that Hydra would misread or refuse gets one line with the remedy."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from ditexp.checks import ConfigError
from ditexp.cli.packaged import known_keys, options_of

# ~ or ~somebody where a path begins: a whole value, or an element of a list or sweep, in quotes or not.
HOME = re.compile(r"(?:^|(?<=[=,(\[]))(\s*['\"]?)(~[\w.-]*)(?=/|$|[,)\]'\"])")

LONG_DASHES = ("\N{EN DASH}", "\N{EM DASH}")


def with_home(override: str) -> str:
    """The override with ~ replaced by the home folder; shells replace it only where a word begins."""
    key, sign, value = override.partition("=")
    return key + sign + HOME.sub(lambda found: found[1] + os.path.expanduser(found[2]), value)


def with_their_groups(overrides: Sequence[str]) -> list[str]:
    """In a sweep over a group, its settings as sweeps of one value: solver.rtol=0.1 as solver.rtol=choice(0.1).

    Hydra first composes what is not swept, where solver=dopri5,tsit5 is still the default solver and has no rtol.
    """
    parsed = {text: parse(text) for text in overrides}
    swept = tuple(f"{override.key_or_group}." for override in parsed.values() if override.is_sweep_override())
    settings = {
        text
        for text, override in parsed.items()
        if override.key_or_group.startswith(swept) and override.type is OverrideType.CHANGE
        if not override.is_sweep_override()
    }
    return ["{0}=choice({2})".format(*text.partition("=")) if text in settings else text for text in overrides]


def check(overrides: Sequence[str], config_name: str, *, is_sweep: bool, shows: bool) -> None:
    """Raise ConfigError with one line for each mistake. shows: whether Hydra only prints, and nothing runs."""
    mistakes = []
    known = known_keys(config_name)
    for place, text in enumerate(overrides):
        if spaced := with_spaces(overrides, place, known):
            mistakes.append(spaced)
            break  # what follows is part of it
        if text.startswith(LONG_DASHES):
            dash = "-" if len(text) == 2 else "--"
            mistakes.append(f"{text} begins with a long dash, as editors make them: type {dash}{text[1:]}")
        elif text.startswith("="):
            mistakes.append(f"{text}: give <key>=<value>, such as solver=heun")
        elif "=" not in text and not text.startswith("~"):
            mistakes.append(unassigned(text, known))
        elif text.endswith("=") and not text.startswith("~"):
            mistakes.append(without_value(text))
        elif not parses(text):
            mistakes.append(unreadable(text))
        else:
            mistakes.extend(misplaced(parse(text), text, is_sweep=is_sweep, shows=shows))
    if is_sweep and shows:
        mistakes.append("--cfg and --info print one cell: leave -m out, and give each setting one value")
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def with_spaces(overrides: Sequence[str], place: int, known: Collection[str]) -> str | None:
    """The mistake of an override that is written as several words: steps = 10, or steps 10."""
    text, *following = overrides[place : place + 3]
    words = [text]
    if text.endswith(",") and "=" in text and following and "=" not in following[0]:
        rest = itertools.takewhile(lambda word: "=" not in word and not word.startswith("-"), overrides[place + 1 :])
        return f"{text} {following[0]}: leave the spaces out: {shell_word(text + ''.join(rest))}"
    if following and following[0].startswith("="):
        words += following[: 2 if following[0] == "=" else 1]
    elif following and "=" not in text + following[0] and text in known:
        return f"{text} {following[0]}: write {text}={following[0]}"
    key, sign, value = " ".join(words).partition("=")
    if sign and key.strip() and value.strip() and (len(words) > 1 or key.rstrip() != key):
        return f"{' '.join(words)}: write {key.strip()}={value.strip()}, without spaces around ="
    return None


def without_value(text: str) -> str:
    key = text[:-1]
    return f"{text} has no value: {choose(key) if is_group(key) else 'give one, or leave it out'}"


def unassigned(text: str, known: Collection[str]) -> str:
    """The mistake of a word without =, with the override that is most likely meant."""
    name, separator, value = re.split(r"([:/]|$)", text, maxsplit=1)
    group, _, option = text.partition(".")
    if option and option in options_of(group):
        example = f"{group}={option}"
    elif name.partition(".")[0] in known:
        example = f"{name}={value if separator and value else '...'}"
    else:
        example = next((f"{group}={text}" for group in known if text in options_of(group)), "solver=heun")
    return f"{text}: give <key>=<value>, such as {example}"


def unreadable(override: str) -> str:
    """Why Hydra's grammar refuses an override, with what to write."""
    key, _, value = override.partition("=")
    functions = OverridesParser.create().functions.definitions
    call = re.match(r"(\w+)\(", value)
    if value.startswith("="):
        why = "one = is enough"
    elif re.search(r",\s*(,|$|[\])])", value):
        return f"{override}: remove one comma"
    elif call and call[1] not in functions and value.endswith(")"):
        why = f"{call[1]} is not a function of Hydra's, which has {', '.join(sorted(functions))}"
    elif value[:1] in ("[", "{", '"', "'") or (call and call[1] in functions):
        why = f"it begins like {kind_of(value)} but cannot be read as one"
    else:
        special = " ".join(sorted({character for character in value if not parses(f"key=a{character}a")}))
        why = f"a value with {special or 'such signs'} in it needs quotes"
    as_text = f"{key}={quoted(value)}"
    if is_group(key) or not parses(as_text):
        return f"{override}: {why}"
    return f"{override}: {why}; as text, write {shell(as_text)}"


def misplaced(override: Override, text: str, *, is_sweep: bool, shows: bool) -> Iterator[str]:
    """The mistakes in what an override means. text: as it was typed."""
    key = override.key_or_group
    value = None if override.is_sweep_override() else override.value()
    if override.is_sweep_override() and not is_sweep:
        values = text.partition("=")[2]
        if shows:
            yield f"{text}: --cfg and --info print one cell: give {key} one value"
        elif re.fullmatch(r"\d{1,3}(,\d{3})+", values):
            number = values.replace(",", "")
            yield f"{text}: add -m to sweep over these values; to give one number, write {key}={number}"
        else:
            is_list = override.is_choice_sweep() and (key == "metric" or not is_group(key))
            one = f"; to give one list of them, write {key}=[{values}]" if is_list else ""
            yield f"{text}: add -m to sweep over these values{one}"
    if is_group(key) and isinstance(value, list) and key != "metric":
        yield f"{text}: {key} takes one option; -m {key}={','.join(map(str, value))} sweeps over them"
    elif is_group(key) and text.endswith("=null"):
        yield f"{text}: null is not an option: leave it out, or {choose(key)}"
    elif is_group(key) and isinstance(value, int | float):
        yield f"{text}: {value} is not an option: {choose(key)}"
    elif key.startswith("hydra.") and not isinstance(value, dict) and options_of(group := key.replace(".", "/")):
        yield f"{text} chooses nothing: write {group}={text.partition('=')[2]}"


def parse(override: str) -> Override:
    """Raises HydraException for what is not in Hydra's grammar."""
    return OverridesParser.create().parse_override(override)


def parses(override: str) -> bool:
    try:
        parse(override)
    except HydraException:
        return False
    return True


def quoted(value: str) -> str:
    """A text as Hydra reads it in an override."""
    return "'{}'".format(value.replace("\\'", "\\\\'").replace("'", "\\'"))


def shell(text: str) -> str:
    """A text between double quotes, as a shell reads it."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'


def shell_word(text: str) -> str:
    """A text as it is typed; brackets in quotes, which zsh needs."""
    return shell(text) if "[" in text else text


def is_group(key: str) -> bool:
    return bool(options_of(key))


def choose(group: str) -> str:
    return f"choose {group}={', '.join(options_of(group))}"


def kind_of(value: str) -> str:
    return {"[": "a list", "{": "a dictionary", "'": "a quoted text", '"': "a quoted text"}.get(value[:1], "a function")
