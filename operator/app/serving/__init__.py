"""One virtual node, served: a file for each side of it, and `node` that puts the sides together."""
