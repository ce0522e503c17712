#!/bin/bash
# Returns when sshd listens for the operator. No process is started meanwhile: a standby cell does this for hours.
exec 9<> <(:)
until { : </dev/tcp/127.0.0.1/6443; } 2>/dev/null; do
    read -rt 0.05 -u 9
done
exit 0
