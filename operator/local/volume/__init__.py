"""The world's shared volume: what machines mount by `mount -t nfs4`, whatever server they name (main.go).

`files/` is what is on it, `shape.json` what stands between it and the machines, `reads/` how much each has read.
"""
