"""`kip choose`: which machines the pods of a manifest would get, without a cluster and without AWS."""
