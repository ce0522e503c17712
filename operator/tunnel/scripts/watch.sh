#!/bin/bash
# Prints `away` when the image cache's volume has not answered for ten seconds, and `back` when it answers again. Ends with its
# standard input. $1 is how many seconds it waits between two questions.
exec 9<> <(:)

ask() {
    stat --file-system /run/kip/volume
    echo $? >&9
}

told=back
tell() {
    [ "$told" = "$1" ] || echo "$1"
    told=$1
}

while true; do
    # One question at a time: one that is not answered waits for as long as it takes.
    ask </dev/null >/dev/null 2>&1 &
    if ! read -rt 10 -u 9 code; then
        tell away
        until read -rt 5 -u 9 code; do
            read -rt 0.01
            [ $? -gt 128 ] || exit 0
        done
    fi
    if [ "$code" = 0 ]; then tell back; else tell away; fi
    # Nothing comes; a timeout is more than 128.
    read -rt "$1"
    [ $? -gt 128 ] || exit 0
done
