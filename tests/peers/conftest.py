import os

import torch

# Unlike `make test`, nothing else runs beside these.
torch.set_num_threads(len(os.sched_getaffinity(0)))
