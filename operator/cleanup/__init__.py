"""`kip cleanup`: what an installation leaves behind in AWS and in the cluster is found, told, and removed."""
