"""The local world: a real control plane, an AWS endpoint and really booted cells on one machine."""
