"""What a machine with NVIDIA GPUs has, on an image with their driver: device nodes, and a runtime that hands them out.

The nodes are null devices. The runtime does of NVIDIA's what a device plugin needs: a container whose environment says
NVIDIA_VISIBLE_DEVICES has these devices, all of them or those named by number or by `GPU-<number>`, and no others.
"""

from __future__ import annotations

RUNTIME = "bin/nvidia-container-runtime"
"""Below `/usr`, as on the EKS NVIDIA images."""

NULL = (1, 3)


def device_nodes(gpus: int) -> list[str]:
    """The paths of so many GPUs, and of the device by which they are controlled."""
    return [*(f"/dev/nvidia{number}" for number in range(gpus)), "/dev/nvidiactl"] if gpus else []


_BRING_IN = f"""\
([.process.env[]? | select(startswith("NVIDIA_VISIBLE_DEVICES="))] | last // "=" | sub("^[^=]*="; "")) as $wanted
| [$ARGS.positional[] | select($wanted == "all" or ([., "GPU-" + .] | any(IN($wanted | split(",")[]))))] as $numbers
| if $numbers == [] then . else
    ($numbers | map("/dev/nvidia" + .) + ["/dev/nvidiactl"]) as $nodes
    | .linux.devices += [$nodes[] | {{path: ., type: "c", major: {NULL[0]}, minor: {NULL[1]}, fileMode: 438}}]
    | .linux.resources.devices += [{{allow: true, type: "c", major: {NULL[0]}, minor: {NULL[1]}, access: "rwm"}}]
  end
"""

RUNTIME_SCRIPT = f"""\
#!/bin/sh
# runc, which first brings GPUs into the bundle of a container that is to be created.
set -eu
creates= bundle= previous=
for word; do
    case $previous in --bundle | -b) bundle=$word ;; esac
    case $word in create | run) creates=yes ;; --bundle=*) bundle=${{word#*=}} ;; esac
    previous=$word
done
if [ "$creates" ] && [ "$bundle" ]; then
    numbers=
    for node in /dev/nvidia[0-9]*; do
        if [ -e "$node" ]; then numbers="$numbers ${{node#/dev/nvidia}}"; fi
    done
    jq '{_BRING_IN}' "$bundle/config.json" --args $numbers >"$bundle/config.json.new"
    mv "$bundle/config.json.new" "$bundle/config.json"
fi
exec /usr/sbin/runc "$@"
"""
