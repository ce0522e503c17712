"""`kip logs CELL --system`: what the programs of a cell have to say."""
