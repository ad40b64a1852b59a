"""`ditexp train`: the small networks that the tests and the demo sample from."""
