"""How the built-in pictures are drawn."""
