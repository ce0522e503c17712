#!/bin/bash
# Mounts the image cache's volume read-only, tried until it works, and what an earlier boot had mounted of it; started by
# kip-volume.service.
set -u
source /etc/kip/volume
directory=/run/kip/volume
mkdir -p $directory
# Whoever may speak NFS to the volume may write to it, as whatever user it says to be: so the pod may not speak NFS. Volumes
# that the kubelet mounts for it are the machine's own traffic.
nft -f - <<'END' || exit 1
table inet kip-volume
delete table inet kip-volume
table inet kip-volume {
    chain forward {
        type filter hook forward priority filter
        meta l4proto { tcp, udp } th dport { 111, 2049 } reject
    }
}
END
# mount.nfs tries for two minutes by itself; but it keeps the first answer of a name server that does not know the
# name yet, and a server that takes connections and says nothing keeps it for ever.
until mountpoint -q $directory || timeout -k 5 30 mount -t nfs4 -o "$VOLUME_OPTIONS" "$VOLUME" $directory; do
    sleep 1
done
# Kernels since 5.4 read 128 KiB ahead on NFS, AWS recommends 15 MB. A layer's file is read at random places, and what is read
# of EFS is paid for. Of a layer at a distance of 1 ms (128, 512, 1024, 4096 KiB): all of its 81 MB take 0.9, 0.4, 0.4, 0.3 s;
# 200 scattered small files cost 4.4, 9.2, 9.2, 8.8 MB, the beginnings of large ones 23, 24, 26, 31 MB.
echo 512 >"/sys/class/bdi/$(mountpoint -d $directory)/read_ahead_kb" || true
if [ -x /var/lib/kip/layers ]; then
    exec /var/lib/kip/layers
fi
