#!/bin/bash
# Prints what the image cache's volume says: the files whose paths come on standard input, and the last block of each layer
# that is among them, or that they name. All of it compressed, as
#
#     platform, and names of the images that the machine has, each in a line
#     sizes and names of the files, each in a line | the files
#     sizes and paths of the layers, each in a line | the last 4096 bytes of each
#
# with an empty line at the end of each list. $1 is how many seconds that may take; exit code 75 says that it took longer.
# A volume may keep a reader waiting for ever, and nothing can end some of that waiting. So the reader has nothing to do with
# standard output: the session would stay open for as long.
volume=/run/kip/volume
mkdir -p /run/kip
work=$(mktemp -d /run/kip/look.XXXXXX) || exit
mkdir "$work/files"
cat >"$work/paths"
exec 9<> <(:)

look() {
    local paths layers files found
    uname -m
    until ctr --namespace k8s.io images list --quiet 2>/dev/null; do read -rt 0.05 -u 8; done
    echo
    # What is mounted there says the kernel without asking the server.
    until grep -q " $volume " /proc/self/mountinfo; do read -rt 0.05 -u 8; done
    cd $volume || return
    mapfile -t paths < <(grep -v ^layers/ "$work/paths")
    mapfile -t layers < <(grep ^layers/ "$work/paths")
    if [ ${#paths[@]} -gt 0 ]; then
        cp -t "$work/files" -- "${paths[@]}"
    fi
    cd "$work/files" || return
    shopt -s nullglob
    files=(*)
    if [ ${#files[@]} -gt 0 ]; then
        stat -c '%s %n' -- "${files[@]}"
        echo
        cat -- "${files[@]}"
        while read -r id; do
            layers+=("layers/sha256/${id:0:2}/$id.squashfs")
        done < <(cat -- "${files[@]}" | grep -oE '"(diffID|chainID)": "sha256:[0-9a-f]{64}"' | grep -oE '[0-9a-f]{64}' | sort -u)
    else
        echo
    fi
    cd $volume || return
    if [ ${#layers[@]} -gt 0 ]; then
        mapfile -t found < <(stat -c '%s %n' -- "${layers[@]}" | grep -E '^[0-9]{4,} ')
        printf '%s\n' "${found[@]}"
    fi
    if [ ${#found[@]} -gt 0 ]; then
        echo
        tail -q -c 4096 -- "${found[@]#* }"
    elif [ ${#layers[@]} -eq 0 ]; then
        echo
    fi
}

(
    exec </dev/null >"$work/out" 2>/dev/null 8<> <(:)
    look
    echo >&9
) &
if read -rt "$1" -u 9; then
    gzip -1 <"$work/out"
    code=$?
else
    kill -KILL $! 2>/dev/null
    code=75
fi
rm -rf "$work"
exit $code
