"""Velocity networks: the DiT / SiT architecture, its checkpoints, and an analytic model with a known answer."""
