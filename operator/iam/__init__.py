"""What Kip may do in AWS: the policies of deploy/iam, filled in for one installation."""
