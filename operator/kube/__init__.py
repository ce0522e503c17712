"""The Kubernetes side: one client, what is watched through it, and the objects Kip writes."""
