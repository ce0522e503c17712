"""The machine room: every running instance of the world's EC2 endpoint, booted for real on this machine."""
