"""The virtual node: the Node object, its heartbeat, and its return when somebody deletes it."""
