"""Asking registries for images: OCI distribution, API version 2, as a client."""
