"""ODE solvers, one small file each.

A fixed-step method is its mathematics (`step`) and its `order`, an adaptive one its tableau.
"""
