"""The life of a cell, one file per stage; `lifecycle.py` runs them in order."""
