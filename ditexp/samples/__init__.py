"""Sample sets on disk, and `python -m ditexp.samples` to look after them."""
