"""The image cache's volume: what is on it, how it is made, and what of it a cell can use."""
