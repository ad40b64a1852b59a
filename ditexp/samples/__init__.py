"""Sample sets on disk, and `ditexp samples` to look after them."""
