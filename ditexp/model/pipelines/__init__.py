"""Models from the files of diffusers' pipelines: a module for each family, and one adapter for all of them."""
