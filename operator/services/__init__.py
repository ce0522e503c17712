"""ClusterIP Services of a cell, as an nft ruleset. Pure."""
