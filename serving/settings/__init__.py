"""Flags and configuration files of TensorFlow Serving."""
