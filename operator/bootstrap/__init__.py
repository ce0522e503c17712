"""What a stock machine image needs to become a cell: user data, and the files in it. Pure."""
