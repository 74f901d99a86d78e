"""Figures of what a network has learnt and where it fails: one method a module."""
