"""The network of 2012: its architectures, its layers, and their graph."""
