"""What fills the image cache and keeps it in bounds: the controller, and the commands for people."""
