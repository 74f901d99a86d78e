"""Request batching with TensorFlow Serving's rules."""
