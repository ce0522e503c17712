"""`kip doctor`: whether an installation can work, and what would mend it."""
