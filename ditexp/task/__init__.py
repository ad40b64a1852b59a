"""What is done with a sampler."""
