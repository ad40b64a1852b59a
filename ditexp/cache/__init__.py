"""Caches: which work of a transformer an evaluation takes over from earlier ones."""
