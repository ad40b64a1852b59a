"""Whether a checkpoint is of the family that the user names, where no key tells: by one evaluation at pure noise.

There, a network that predicts noise returns its input, and one that predicts data - noise returns nearly its opposite,
since it knows nothing of the data but their mean. A network with random weights does neither, and is not refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ditexp.model.families.family import Family
from ditexp.model.label_network import LabelNetwork
from ditexp.noise import noise

SUPPORTED = 0.5  # a correlation with the sign that the family's networks have
CERTAIN = 0.9  # a correlation that random weights don't have


def contradiction(network: LabelNetwork, claimed: Family, others: Iterable[Family]) -> str:
    """Why the network is not of the family that is claimed, and of which other it is; "" if it may be of it.

    It takes one evaluation of one sample if the claim is right, and one more for each other family if not.
    """
    if claimed.at_noise is None:
        return ""
    time, sign = claimed.at_noise
    found = correlation(network, time)
    if found * sign >= SUPPORTED:
        return ""
    for other in others:
        if other.at_noise and (like := correlation(network, other.at_noise[0])) * other.at_noise[1] > CERTAIN:
            return (
                f"its output for noise at time {other.at_noise[0]:g} has the correlation {like:.2f} with it, as "
                f"{other.title}'s has: choose model.family={other.name}"
            )
    if found * sign < -CERTAIN:
        return f"its output for noise at time {time:g} has the correlation {found:.2f} with it, not one near {sign:g}"
    return ""


@torch.inference_mode()
def correlation(network: LabelNetwork, time: float) -> float:
    """The correlation of the output with its input, one sample of standard normal noise; 0 for a constant output."""
    x = noise(0, [0], (network.in_channels, network.input_size, network.input_size))
    labels = torch.zeros(1, dtype=torch.int64) if network.num_classes else None
    output = network(x, torch.tensor([float(time)]), labels)
    found = torch.corrcoef(torch.stack([output.flatten(), x.flatten()]).double())[0, 1].item()
    return found if found == found else 0.0
