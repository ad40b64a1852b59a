"""Autoencoders between images and the latents of latent models."""
