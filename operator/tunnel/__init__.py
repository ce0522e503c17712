"""SSH connections to cells, and what goes through them."""
