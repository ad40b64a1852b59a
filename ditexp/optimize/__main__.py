"""Find good grids for a model: ditexp optimize [-m] solver=heun guidance=... (see conf/optimize.yaml).

They are the best of those that it tries, not the best that exist:

exact paths of some samples -> the error of a step between any two times -> for each number of steps, the grid with the
least sum (dynamic programming) -> fitted to the error at t = 1 -> compared, on other samples, with all other schedules

All of it is written to outputs/schedules/<id>.json. There, `schedule=optimized` finds it for the same model, solver and
guidance.
"""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.cli.numbers import not_whole_numbers
from ditexp.files.atomic import atomic, check_writable
from ditexp.files.content import digest
from ditexp.outputs import Outputs
from ditexp.provenance import provenance


@command("optimize")
def main(cfg: DictConfig) -> None:
    check_settings(cfg)
    from ditexp.optimize.comparison import show
    from ditexp.optimize.finding import build, find  # imports torch: what is wrong above is said before

    sampler, found_for = build(cfg)
    id = digest(found_for)
    out = Path(cfg.out or Outputs(cfg.outputs).schedule(id))
    check_writable(out)
    sampler.load(cfg.trajectories)
    grids, errors = find(sampler, cfg)
    result = {
        "id": id,
        "found_for": found_for,
        "grids": grids,
        "errors": errors,
        "config": OmegaConf.to_container(cfg, resolve=True),
        **provenance(),
    }
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    show(errors, out)


def check_settings(cfg: DictConfig) -> None:
    """Raise ConfigError for numbers that cannot be."""
    if mistakes := not_whole_numbers(cfg, trajectories=1, candidates=2, max_steps=1, seed=0):
        raise ConfigError("\n".join(mistakes))
    if cfg.max_steps > cfg.candidates:
        raise ConfigError(f"max_steps={cfg.max_steps}: give at most candidates={cfg.candidates}, or more candidates")


if __name__ == "__main__":
    main()
