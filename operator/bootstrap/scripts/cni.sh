#!/bin/bash
# CNI plugin of a cell: a veth pair whose end in the pod has the machine's secondary private address.
# https://www.cni.dev/docs/spec/ (1.0, and STATUS of 1.1)
set -Eeuo pipefail
readonly HOST=kip0 GATEWAY=169.254.1.1
# Fixed addresses: udev then does not make up others, and neither end has to ask for them.
readonly HOST_MAC=02:6b:69:70:00:01 POD_MAC=02:6b:69:70:00:02
# A routing table, and the rule for it: what comes from the VPC for none of the cell's own addresses goes to the pod. EC2
# brings such packets only to a cell that a route leads to (cloud-route); what the cell itself sends never goes there.
readonly FOREIGN=1070
readonly HOLDER=/run/kip/cni

fail() {
    jq -cn --arg version "${version:-1.0.0}" --argjson code "$1" --arg msg "$2" '{cniVersion: $version, code: $code, msg: $msg}'
    trap - ERR
    exit 1
}
trap 'fail 999 "kip: $CNI_COMMAND failed in line $LINENO: $BASH_COMMAND"' ERR
in_pod() { nsenter --net="$CNI_NETNS" ip "$@"; }

unlink() { printf '%s\n' "$@" "link del $HOST" "rule del pref $FOREIGN" | ip -force -batch - 2>/dev/null || :; }

remove() {
    unlink
    printf 'table ip kip\ndelete table ip kip\n' | nft -f -
    rm -f $HOLDER
}

add() {
    local id uid netns own_uid=
    [[ ";${CNI_ARGS:-}" =~ \;K8S_POD_UID=([^\;]+) ]] && own_uid=${BASH_REMATCH[1]}
    # There is one address. A newer sandbox of the same pod takes it over, also if the old one was never removed.
    if [ -s $HOLDER ]; then
        read -r id uid netns <$HOLDER
        if [ "$uid" != "${own_uid:--}" ] && [ -e "$netns" ]; then
            fail 11 "kip: address $POD is in use by pod $uid (sandbox $id)"
        fi
        remove
    fi
    echo "$CNI_CONTAINERID ${own_uid:--} $CNI_NETNS" >$HOLDER
    # Tools of some images put secondary addresses on the interface; the pod's must not be the machine's, too.
    unlink "addr del $POD/32 dev $DEVICE"
    [[ $(ip -o link show dev "$DEVICE") =~ mtu\ ([0-9]+) ]]
    local mtu=${BASH_REMATCH[1]}
    ip link add name $HOST mtu "$mtu" address $HOST_MAC type veth \
        peer name "$CNI_IFNAME" mtu "$mtu" address $POD_MAC netns "$CNI_NETNS"
    in_pod -batch - <<END
link set lo up
link set $CNI_IFNAME up
addr add $POD/32 dev $CNI_IFNAME
route add $GATEWAY dev $CNI_IFNAME scope link
route add default via $GATEWAY
neigh add $GATEWAY lladdr $HOST_MAC dev $CNI_IFNAME nud permanent
END
    ip -batch - <<END
link set $HOST up
route replace $POD/32 dev $HOST src $PRIMARY
neigh replace $POD lladdr $POD_MAC dev $HOST nud permanent
route replace default via $POD dev $HOST onlink table $FOREIGN
rule add iif $DEVICE pref $FOREIGN lookup $FOREIGN
END
    # The pod may answer from such an address, to which no route of the main table leads.
    echo 2 >/proc/sys/net/ipv4/conf/$HOST/rp_filter
    rules | nft -f -
    cat <<END
{
    "cniVersion": "$version",
    "interfaces": [
        {"name": "$HOST", "mac": "$HOST_MAC"},
        {"name": "$CNI_IFNAME", "mac": "$POD_MAC", "sandbox": "$CNI_NETNS"}
    ],
    "ips": [{"interface": 1, "address": "$POD/32", "gateway": "$GATEWAY"}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "$GATEWAY"}],
    "dns": {}
}
END
}

# Only the primary address has a public one; within the VPC the pod is known by its own. Port 22 is the operator's way
# into the cell: a pod that got it as a hostPort would be dialled in the cell's place.
rules() {
    local host_ports=
    # containerd writes HostPort, others hostPort: CNI's own plugins do not mind the case.
    if [[ $config == *[hH]ost[pP]ort* ]]; then
        host_ports=$(jq -r --arg pod "$POD" '.runtimeConfig.portMappings[]? | with_entries(.key |= ascii_downcase)
            | select(.hostport > 0 and ((.hostip // "") | contains(":") | not))
            | (if (.hostip // "") | IN("", "0.0.0.0") then "" else "ip daddr \(.hostip) " end) as $to
            | "\($to)\(.protocol | ascii_downcase) dport \(.hostport) dnat to \($pod):\(.containerport)"' <<<"$config")
    fi
    cat <<END
table ip kip
delete table ip kip
table ip kip {
    chain hostports {
        tcp dport 22 return
$host_ports
    }
    chain prerouting {
        type nat hook prerouting priority dstnat
        fib daddr type local jump hostports
    }
    chain output {
        type nat hook output priority -100
        ip daddr != 127.0.0.0/8 fib daddr type local jump hostports
    }
    chain postrouting {
        type nat hook postrouting priority srcnat
        iifname $HOST oifname $HOST ct status dnat snat to $PRIMARY
        ip saddr $POD ip daddr != { $VPC_CIDRS } oifname $DEVICE snat to $PRIMARY
    }
}
END
}

del() {
    local id=
    if [ -s $HOLDER ]; then read -r id _ <$HOLDER; fi
    if [ "$id" = "$CNI_CONTAINERID" ]; then remove; fi
}

check() {
    local id=
    if [ -s $HOLDER ]; then read -r id _ <$HOLDER; fi
    [ "$id" = "$CNI_CONTAINERID" ] || fail 101 "kip: address $POD belongs to sandbox '$id'"
    [[ $(in_pod -o -4 addr show dev "$CNI_IFNAME") == *" $POD/32 "* ]] || fail 102 "kip: $CNI_IFNAME has no address $POD"
    [ -n "$(ip route show "$POD" dev $HOST)" ] || fail 103 "kip: no route to $POD"
}

if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}'
    exit
fi
config=$(cat)
# Not by jq (1.6: 20 ms for a start): all that ADD takes is between a pod and its start.
[[ $config =~ \"cniVersion\"[[:space:]]*:[[:space:]]*\"([0-9.]+)\" ]]
version=${BASH_REMATCH[1]}
[ -s /etc/kip/network ] || fail 50 "kip: /etc/kip/network is not there yet"
source /etc/kip/options
source /etc/kip/network
mkdir -p /run/kip
exec 9>/run/kip/cni.lock
flock 9
case $CNI_COMMAND in
    ADD) add ;;
    DEL) del ;;
    CHECK) check ;;
    STATUS | GC) ;;
    *) fail 4 "kip: CNI_COMMAND '$CNI_COMMAND' is not known" ;;
esac
