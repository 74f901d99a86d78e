"""Clients for any server that speaks TensorFlow Serving's API."""
