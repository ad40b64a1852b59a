"""From images to scores: the command `ditexp evaluate`, and the function `ditexp.evaluate(images, reference, ...)`.

Python sets the package ditexp's attribute `evaluate` to this module once a part of it is imported. So the module itself
can be called: it stands for the function in ditexp/api/evaluation.py.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType

from ditexp.result import Evaluation


class CallableModule(ModuleType):
    @property
    def __call__(self) -> Callable[..., Evaluation]:
        from ditexp.api.evaluation import evaluate

        return evaluate

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__call__)


sys.modules[__name__].__class__ = CallableModule
