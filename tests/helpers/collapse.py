"""Flags with which a small SAGAN on Fashion-MNIST collapses, for real."""

FROZEN_CRITIC = ("--set", "discriminator.optimizer.lr=1e-9", "--set", "generator.optimizer.lr=5e-3")
"""The generator finds the one image that a discriminator which never learns likes best: mode collapse."""
STRONG_CRITIC = (
    *("--set", "discriminator.network.spectral=false", "--set", "generator.network.spectral=false"),
    *("--set", "discriminator.optimizer.lr=2e-3", "--set", "generator.optimizer.lr=1e-6"),
)
"""The discriminator soon wins every time."""
