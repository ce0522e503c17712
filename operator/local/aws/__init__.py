"""AWS on this machine: moto's server, extended with what EC2 does and moto does not."""
