"""Feature networks: what metrics see of images."""
