"""What sampling costs on one GPU: python -m benchmarks.gpu PART ..., see __main__.py."""
