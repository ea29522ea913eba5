"""Weights of public implementations, read without running their code and loaded into our networks.

network = framework.interop.load("nvlabs-stylegan2", "generator", state)
"""

from framework.interop.load import KINDS, load, understand

__all__ = ["KINDS", "load", "understand"]
