"""Computations inside a network that several methods share."""
