"""Metrics: scores of images, and scores of how samples are made."""
