"""A model server that speaks TF Serving's gRPC and REST interfaces."""
