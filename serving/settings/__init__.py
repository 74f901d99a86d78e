"""TensorFlow Serving's flags and configuration files."""
