"""The gRPC transport: services and server."""
