#!/bin/bash
# Makes this machine a cell; started by kip-boot.service at every boot. May be repeated.
set -euo pipefail
umask 077
trap 'echo "kip: boot failed in line $LINENO: $BASH_COMMAND" | tee /dev/console >&2' ERR
source /etc/kip/options
mkdir -p /run/kip

# A reload takes half a second on a machine that is busy booting, and units that nobody has asked for yet do not
# need it. What needs it is an image on which others refer to them.
ours="containerd.service kubelet.service kip-api.socket kip-api.service kip-dead-man-switch.timer"
if systemctl show --property=NeedDaemonReload $ours | grep -q yes; then
    systemctl daemon-reload
fi
# First of all, so that a cell on which anything below fails does not stay for ever.
systemctl start --no-block kip-dead-man-switch.timer
systemctl restart --no-block containerd.service

# Only where sshd does not wait for cloud-init. Sessions outlive a restart (KillMode=process).
if [ /etc/ssh/sshd_config.d/00-kip.conf -nt /run/sshd.pid ]; then
    systemctl try-restart --no-block sshd.service
fi

# Secrets of this cell alone: user data is the same for many cells, and pods can read it.
cd /etc/kip
if [ ! -s token ]; then
    od -An -vtx1 -N32 /dev/urandom | tr -d ' \n' >token.new
    mv token.new token
fi
sed "s/@TOKEN@/$(<token)/" kubeconfig.in >kubeconfig.new
mv kubeconfig.new kubeconfig
if [ ! -s own_host_key.pub ]; then
    rm -f ssh_host_ed25519_key.next ssh_host_ed25519_key.next.pub
    ssh-keygen -q -t ed25519 -N '' -C '' -f ssh_host_ed25519_key.next
    mv ssh_host_ed25519_key.next.pub own_host_key.pub
fi

metadata=http://169.254.169.254/latest
until imds_token=$(curl -sf -m 1 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $metadata/api/token); do
    sleep 0.1
done
imds() {
    curl -sf -m 5 --retry 3 -H "X-aws-ec2-metadata-token: $imds_token" "$metadata/meta-data/$1"
}
mac=$(imds mac)
primary=$(imds local-ipv4)
pod=
for address in $(imds "network/interfaces/macs/$mac/local-ipv4s"); do
    if [ "$address" != "$primary" ]; then
        pod=$address
        break
    fi
done
if [ -z "$pod" ]; then
    echo "the network interface has no secondary address for the pod" >&2
    false
fi
read -r _ device _ < <(ip -o -4 addr show to "$primary")
printf 'PRIMARY=%s\nPOD=%s\nDEVICE=%s\n' "$primary" "$pod" "$device" >network.new
mv network.new network

echo 1 >/proc/sys/net/ipv4/ip_forward

arguments="--config=/etc/kip/kubelet.json --kubeconfig=/etc/kip/kubeconfig"
arguments+=" --hostname-override=$NODE_NAME --node-ip=$primary --runtime-cgroups=/runtime.slice/containerd.service"
providers=/etc/eks/image-credential-provider
if [ -e image-credential-provider.json ] && [ -x $providers/ecr-credential-provider ]; then
    arguments+=" --image-credential-provider-config=/etc/kip/image-credential-provider.json"
    arguments+=" --image-credential-provider-bin-dir=$providers"
fi
# systemd-resolved's stub listens on the machine's loopback, which is not the pod's.
if grep -qs '^nameserver 127\.0\.0\.53' /etc/resolv.conf; then
    arguments+=" --resolv-conf=/run/systemd/resolve/resolv.conf"
fi
mkdir -p /etc/eks/kubelet
echo "NODEADM_KUBELET_ARGS=\"$arguments\"" >/etc/eks/kubelet/environment

systemctl start --no-block kip-api.socket
systemctl restart --no-block kubelet.service

# The image's own way into a cluster; it failed at this boot, because it wants its kind of user data.
for unit in nodeadm-config nodeadm-run; do
    ln -sfn /dev/null "/etc/systemd/system/$unit.service"
done
