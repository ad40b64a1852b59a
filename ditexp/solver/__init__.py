"""ODE solvers, one small file each.

A fixed-step method is its formula (`step`) and its `order`; an adaptive one is its tableau.
"""
