"""Train a network: ditexp train network=dit_s_2 data=folder data.path=... (see conf/train.yaml).

Seeded, with an exponential moving average of the weights, and resumable: the same command continues from the last
checkpoint, and only says so if the training is finished.
"""

from __future__ import annotations

from omegaconf import DictConfig

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.train.settings import mistakes_in


@command("train")
def main(cfg: DictConfig) -> None:
    if mistakes := mistakes_in(cfg):
        raise ConfigError("\n".join(mistakes))
    from ditexp.train.training import run  # imports torch: what is wrong above is said before

    run(cfg)


if __name__ == "__main__":
    main()
