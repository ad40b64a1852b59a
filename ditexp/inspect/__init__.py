"""Says what a file is: weights, a VAE, statistics, a reference. Nothing is sampled."""
