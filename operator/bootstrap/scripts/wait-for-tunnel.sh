#!/bin/bash
# Returns when sshd listens for the operator. No process is started meanwhile: a standby cell does this for hours.
never=/run/kip/never
[ -p $never ] || mkfifo $never
exec 9<>$never
until { : </dev/tcp/127.0.0.1/6443; } 2>/dev/null; do
    read -rt 0.05 -u 9
done
exit 0
