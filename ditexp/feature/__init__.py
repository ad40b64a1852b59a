"""The networks that images are judged by."""
