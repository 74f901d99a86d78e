"""JSON as TensorFlow Serving's REST API reads and writes it."""
