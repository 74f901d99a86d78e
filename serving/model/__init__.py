"""One loaded SavedModel: its session, signatures, tensors and warm-up."""
