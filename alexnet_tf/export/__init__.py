"""Export of a run's network as a SavedModel; `python -m alexnet_tf.export` writes one."""
