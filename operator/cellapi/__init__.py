"""The Kubernetes API that the kubelet of one cell sees: its node, its pod, what that pod refers to.

Start with `kip.cellapi.rules`: the table there is the whole policy.
"""
