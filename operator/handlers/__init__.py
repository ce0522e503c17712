"""What kopf calls: translate, delegate."""
