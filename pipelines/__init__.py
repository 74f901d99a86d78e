"""Pictures in, batches out: sources, preparation, augmentation and evaluation crops."""
