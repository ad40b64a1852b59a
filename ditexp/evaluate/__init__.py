"""`python -m ditexp.evaluate`: from images to scores."""
