"""A package of its own, lest the `tests` that torch-fidelity's wheel installs be taken for this one."""
