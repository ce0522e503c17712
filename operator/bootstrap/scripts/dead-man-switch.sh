#!/bin/bash
# The forwarded port proves an authenticated session of the operator; sshd closes it within 40 s of its end.
source /etc/kip/options
seen=/run/kip/operator-seen
# Uptime, not the clock: that is set some time after boot.
read -r now _ </proc/uptime
now=${now%.*}
mkdir -p /run/kip
if [ ! -s $seen ] || [ -n "$(ss -Hltn 'src 127.0.0.1 and sport = :6443')" ]; then
    echo "$now" >$seen
    exit
fi
read -r last <$seen
if ((now - last >= DEAD_MAN_SWITCH_S)); then
    echo "kip: no operator for $((now - last)) s: power off" | tee /dev/console
    sync
    # A plain poweroff waits 90 s for containers that ignore SIGTERM.
    systemctl poweroff -ff
fi
