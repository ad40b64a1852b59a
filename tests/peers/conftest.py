import os
from collections.abc import Iterator

import pytest
import torch

from tests.helpers.scipy_sqrtm import sqrtm_with_disp

# Unlike `make test`, nothing else runs beside these.
torch.set_num_threads(len(os.sched_getaffinity(0)))


@pytest.fixture(autouse=True)
def peers_run_with_any_scipy() -> Iterator[None]:
    with sqrtm_with_disp():
        yield
