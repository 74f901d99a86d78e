"""What `serving.check` asks a server, and how it compares the answers."""
