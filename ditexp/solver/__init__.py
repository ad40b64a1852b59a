"""ODE solvers, one small file each: a fixed-step method is its mathematics (`step`) and its `order`."""
