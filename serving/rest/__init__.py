"""The REST transport: application, routes, HTTP server."""
