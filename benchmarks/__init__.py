"""Our figures against named peers, in one run, as ratios: `python -m benchmarks.NAME`."""
