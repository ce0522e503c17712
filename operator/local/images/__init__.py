"""The local world's own images, made on the spot: no container engine, no registry, nothing pulled.

- `localhost/kubernetes/pause:latest`: every pod's sandbox, under the name that the EKS AMI gives to its own;
- `demo.kip.local/web:1`: an HTTP server that tells about its pod (see `web/main.go`);
- `demo.kip.local/toolbox:1`: Debian's static busybox under all its names: sh, wget, nslookup, cat …
- `demo.kip.local/device-plugin:1`: registers a machine's GPUs with its kubelet (see `deviceplugin/main.go`).
"""

from __future__ import annotations

from kip.local.images.build import DEVICE_PLUGIN, PAUSE, PROGRAMS, TOOLBOX, WEB, build_all

__all__ = ["DEVICE_PLUGIN", "PAUSE", "PROGRAMS", "TOOLBOX", "WEB", "build_all"]
