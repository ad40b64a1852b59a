"""Numbers that features of images are summed up in."""
