"""`kip top`: the cells there are, and what they cost."""
