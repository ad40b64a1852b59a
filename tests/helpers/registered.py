"""Imported by the server that commands are forked from: they need not read the studies again."""

from ditexp.cli.command import register_with_hydra

register_with_hydra()
