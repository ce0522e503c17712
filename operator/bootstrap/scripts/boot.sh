#!/bin/bash
# Makes this machine a cell; started by kip-boot.service at every boot. May be repeated.
# A pod waits for all that is done before its kubelet is started: so what waits itself (for the metadata service, for
# systemd, for a key) is done at the same time, and what nobody needs before is done afterwards.
set -Eeuo pipefail
umask 077
trap 'echo "kip: boot failed in line $LINENO: $BASH_COMMAND" | tee /dev/console >&2' ERR
source /etc/kip/options
mkdir -p /run/kip /etc/eks/kubelet
cd /etc/kip

# Asks the metadata service which of the machine's addresses is the pod's: the CNI plugin sources the answer.
find_addresses() {
    local metadata=http://169.254.169.254/latest token facts mac primary device address pod=
    until token=$(curl -sf -m 1 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' $metadata/api/token); do
        sleep 0.1
    done
    imds() {
        curl -sf -m 5 --retry 3 --fail-early -w '\n' -H "X-aws-ec2-metadata-token: $token" "${@/#/$metadata/meta-data/}"
    }
    facts=$(imds mac local-ipv4)
    read -r mac primary <<<"${facts/$'\n'/ }"
    facts=$(imds "network/interfaces/macs/$mac/local-ipv4s")
    for address in $facts; do
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
}

# Like the token a secret of this cell alone: user data is the same for many cells, and pods can read it.
make_host_key() {
    rm -f ssh_host_ed25519_key.next ssh_host_ed25519_key.next.pub
    ssh-keygen -q -t ed25519 -N '' -C '' -f ssh_host_ed25519_key.next
    mv ssh_host_ed25519_key.next.pub own_host_key.pub
}

find_addresses &
addresses_found=$!

# While memory is still in one piece. A kubelet counts them once, when it starts; those that could not be had are missed
# by whoever shows it a pod.
for pages in ${HUGE_PAGES-}; do
    echo "${pages#*=}" >/sys/kernel/mm/hugepages/hugepages-"${pages%=*}"/nr_hugepages ||
        echo "kip: no huge pages of ${pages%=*}" >&2
done

# A reload takes half a second on a machine that is busy booting, and units that nobody has asked for yet do not
# need it. What needs it is an image on which others refer to them.
ours="containerd.service kubelet.service kip-api.socket kip-api.service kip-dead-man-switch.timer"
if [[ $(systemctl show --property=NeedDaemonReload $ours) == *=yes* ]]; then
    systemctl daemon-reload
fi
# Decided by the image, as nodeadm does: this runtime gives containers the GPUs that the device plugin has assigned. It
# may not keep the switch below from being set.
nvidia=/usr/bin/nvidia-container-runtime
if [ -x $nvidia ]; then
    sed -i -e 's/"runc"/"nvidia"/' -e 's/runtimes\.runc/runtimes.nvidia/' -e "s|/usr/sbin/runc|$nvidia|" \
        /etc/containerd/config.toml || echo "kip: containerd is not told of $nvidia" >&2
elif [ -e /etc/kubernetes/manifests/kip-device-plugin.json ]; then
    echo "kip: this image has no $nvidia: pods get no GPUs here" >&2
fi

# The switch first of all, so that a cell on which anything below fails does not stay for ever.
systemctl restart --no-block kip-dead-man-switch.timer containerd.service

# Only where sshd does not wait for cloud-init. Sessions outlive a restart (KillMode=process).
if [ /etc/ssh/sshd_config.d/00-kip.conf -nt /run/sshd.pid ]; then
    systemctl try-restart --no-block sshd.service
fi

host_key_made=
if [ ! -s own_host_key.pub ]; then
    make_host_key &
    host_key_made=$!
fi
if [ ! -s token ]; then
    od -An -vtx1 -N32 /dev/urandom | tr -d ' \n' >token.new
    mv token.new token
fi
kubeconfig=$(<kubeconfig.in)
echo "${kubeconfig/@TOKEN@/$(<token)}" >kubeconfig.new
mv kubeconfig.new kubeconfig

echo 1 >/proc/sys/net/ipv4/ip_forward

arguments="--config=/etc/kip/kubelet.json --kubeconfig=/etc/kip/kubeconfig --hostname-override=$NODE_NAME"
arguments+=" --runtime-cgroups=/runtime.slice/containerd.service"
providers=/etc/eks/image-credential-provider
if [ -e image-credential-provider.json ] && [ -x $providers/ecr-credential-provider ]; then
    arguments+=" --image-credential-provider-config=/etc/kip/image-credential-provider.json"
    arguments+=" --image-credential-provider-bin-dir=$providers"
fi
# systemd-resolved's stub listens on the machine's loopback, which is not the pod's.
if grep -qs '^nameserver 127\.0\.0\.53' /etc/resolv.conf; then
    arguments+=" --resolv-conf=/run/systemd/resolve/resolv.conf"
fi

wait $addresses_found
source ./network
echo "NODEADM_KUBELET_ARGS=\"$arguments --node-ip=$PRIMARY\"" >/etc/eks/kubelet/environment
# It brings kip-api.socket with it.
systemctl restart --no-block kubelet.service

# The image's own way into a cluster; it failed at this boot, because it wants its kind of user data.
for unit in nodeadm-config nodeadm-run; do
    ln -sfn /dev/null "/etc/systemd/system/$unit.service"
done
# So that this service fails if the key cannot be made; without a name it waits for nothing.
wait $host_key_made
