"""Which versions of which models are served: found, loaded, switched and unloaded."""
