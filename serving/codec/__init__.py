"""The JSON of TensorFlow Serving's REST API: requests to tensors, tensors to answers."""
