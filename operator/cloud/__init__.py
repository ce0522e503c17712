"""AWS as the rest of the operator sees it. Nothing outside this folder knows an AWS API."""
