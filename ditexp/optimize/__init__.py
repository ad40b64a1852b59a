"""`ditexp optimize`: time grids found for one model."""
