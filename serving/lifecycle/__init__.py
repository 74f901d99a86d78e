"""The lifecycle of models: their versions are found, loaded, switched and unloaded."""
