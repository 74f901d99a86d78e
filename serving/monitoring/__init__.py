"""The server's metrics and memory management."""
