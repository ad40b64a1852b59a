"""What the original code of published models computes, and the generators that wrote it down.

A golden file holds the shapes of a network's weights, inputs and the original's outputs, the commit of the original
and the command that wrote it. Weights are not stored: `weights.drawn` draws them by name on both sides.
"""
