"""How well a network does: counting errors, and the reports about them."""
