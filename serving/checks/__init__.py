"""The requests of `serving.check` and the comparison of their answers."""
