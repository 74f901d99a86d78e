"""Requests gathered into batches, by TensorFlow Serving's rules."""
