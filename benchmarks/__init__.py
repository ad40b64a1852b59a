"""Measurements: ratios side by side in one run, medians, written to benchmarks/results/ with where they were taken."""
