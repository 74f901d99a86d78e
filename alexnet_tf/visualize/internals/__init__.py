"""Receptive fields, projections and ascents: computations inside a network that the methods share."""
