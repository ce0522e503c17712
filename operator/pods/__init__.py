"""What a pod says, read without side effects: whose it is, what it needs, what it refers to, how it ends.

Every function takes the pod as the API server sends it: decoded JSON.
"""
