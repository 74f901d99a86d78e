"""One loaded SavedModel, and what can be asked of it."""
