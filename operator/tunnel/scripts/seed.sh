#!/bin/bash
# Makes layers of the image cache's volume snapshots of containerd, and imports images that consist of them. On standard input,
# each in a line:
#
#     layer ID DATA ROOT SALT     the layer's file is called ID (up to a dot, by which it may be mounted more than once); its
#                                 first DATA bytes are the file system, after them comes dm-verity's tree with that root hash
#     snapshot CHAIN PARENT ID    that layer as the snapshot CHAIN on PARENT, which is `-` for the lowest
#     import CHAIN ARCHIVE        an archive in base64 for `ctr images import`, of an image whose highest snapshot is CHAIN
#
# $1 is how many seconds that may take, $2 `auto` where dm-verity is to be used if there is one, $3 the program snapshots.py.
# Prints what was done: `layer ID` or `verity ID`, `snapshot CHAIN`, `import CHAIN`, and `failed WHAT WHY` for what was not.
#
# What has the name of a ChainID counts as that layer, whatever is in it, so it must never be seen empty: everything that waits
# for the volume comes before, on a directory of its own; then the snapshot is made and that directory bound to it, for which
# nobody is asked. /var/lib/kip/layers does it again on a machine that was booted anew, before its kubelet starts.
umask 077
record=/var/lib/kip/layers
mkdir -p /run/kip/layers /var/lib/kip
work=$(mktemp -d /run/kip/seed.XXXXXX) || exit
cat >"$work/orders"
exec 9<> <(:)

mount_layer() {
    local id=$1 data=$2 root=$3 salt=$4 verity=$5 code=0
    local at=/run/kip/layers/$id file=/run/kip/volume/layers/sha256/${id:0:2}/${id%.*}.squashfs device source
    grep -q " $at " /proc/self/mountinfo && return
    mkdir -p "$at"
    # Not `mount -o loop`, which gives a file that is needed twice the same device, and so the same file system.
    device=$(losetup --find --show --read-only "$file") || return
    source=$device
    if [ "$verity" = verity ]; then
        source=/dev/mapper/kip-$id
        dmsetup create "kip-$id" --readonly --table "0 $((data / 512)) verity 1 $device $device 4096 4096 \
$((data / 4096)) $((data / 4096)) sha256 $root $salt" || code=1
    fi
    if [ $code = 0 ] && ! mount -t squashfs -o ro "$source" "$at"; then
        code=1
        [ "$verity" != verity ] || dmsetup remove "kip-$id"
    fi
    # It goes when nothing uses it any more.
    losetup --detach "$device"
    return $code
}

bind_layer() {
    grep -q " $2 " /proc/self/mountinfo || mount --bind "/run/kip/layers/$1" "$2"
}

how_to_mount() {
    if [ "$1" = auto ] && command -v dmsetup >/dev/null && { modprobe -q dm-verity || true; } &&
        dmsetup targets 2>/dev/null | grep -q '^verity '; then
        echo verity
    else
        echo layer
    fi
}

snapshots() {
    ctr --namespace k8s.io snapshots "$@"
}

# What needs two calls for each layer goes by one process that stays, where the machine has Python; else, and from its first
# failure on, by ctr.
begin_asking() {
    trap '' PIPE
    mkfifo "$work/to" "$work/from"
    python3 -I -S -c "$1" /run/containerd/containerd.sock <"$work/to" >"$work/from" 7>&- 9>&- &
    exec 5>"$work/to" 6<"$work/from"
}

# Leaves what it says in $answer.
ask() {
    local word
    answer=
    [ ! -e "$work/silent" ] || return
    # A late answer would be taken for that to the next question.
    echo "$*" >&5 && read -rt 5 -u 6 word answer && [ "$word" = ok ] || { touch "$work/silent"; return 1; }
} 2>/dev/null

# Leaves the directory for its content in $answer, and the key that it got in $key.
prepare_snapshot() {
    local parent=$1
    ask prepare "$key" "${parent:--}" && return
    key+=-again
    # The lowest snapshot is a bind mount, the others are overlays.
    answer=$(snapshots prepare --mounts "$key" ${parent:+"$parent"} |
        sed -nE 's/.*upperdir=([^",]+).*/\1/p; t; s/.*"Source": *"(\/[^"]+)".*/\1/p' | tail -n 1)
}

commit_snapshot() {
    # It may have been done though nobody said so; and then it must not stay empty.
    ask commit "$1" "$key" || snapshots commit "$1" "$key" || snapshots info "$1"
}

begin_record() {
    [ -e $record ] && return
    {
        printf '#!/bin/bash\n# Written by Kip: mounts what was mounted of the image cache before this machine booted anew.\n'
        declare -f mount_layer bind_layer
    } >$record.new
    chmod 0700 $record.new
    mv $record.new $record
}

make_snapshot() {
    local chain=$1 parent=${2#-} id=$3 key answer directory
    if [ -n "${known[$chain]}" ]; then
        # One that was pulled is as good. Ours may be of an attempt that ended halfway.
        directory=$(sed -n "s/^bind_layer [^ ]* \([^ ]*\) # $chain\$/\1/p" $record | tail -n 1)
        [ -z "$directory" ] || bind_layer "$id" "$directory"
        return
    fi
    key=kip-seed-$$-$chain
    prepare_snapshot "$parent"
    directory=$answer
    if [ -z "$directory" ]; then
        echo "containerd names no directory for $key" >&2
        return 1
    fi
    {
        echo "mount_layer $id ${arguments[$id]}"
        echo "bind_layer $id $directory # $chain"
    } >>$record && sync $record && commit_snapshot "$chain" || return
    # Nothing is mounted on it yet, which bind_layer would look for.
    if ! mount --bind "/run/kip/layers/$id" "$directory"; then
        snapshots rm "$chain"
        return 1
    fi
}

# What failed, and with it what is on top of it.
fail() {
    failed+=" $1 "
    [ -z "$2" ] || echo "failed $1 $(tr '\n' ' ' <<<"$2")"
}

seed_snapshot() {
    local chain=$1 parent=$2 id=$3 error
    # Once: who waits for it a second time is told that it does not exist.
    if [ -n "${mounting[$id]}" ]; then
        if wait "${mounting[$id]}"; then
            echo "$how $id"
        else
            fail "$id" "$(<"$work/$id")"
        fi
        mounting[$id]=
    fi
    if [ -e "$work/stop" ] || [[ $failed == *" $id "* || $failed == *" $parent "* ]]; then
        fail "$chain" ""
    elif error=$(make_snapshot "$chain" "$parent" "$id" 2>&1 >/dev/null); then
        echo "snapshot $chain"
    else
        fail "$chain" "$error"
    fi
}

# Not of an image whose layers are not all there: it would be one that cannot run, and that nobody pulls.
seed_import() {
    local chain=$1 archive=$2 error
    if [ -e "$work/stop" ] || [[ $failed == *" $chain "* ]]; then
        return
    fi
    if error=$(base64 -d <<<"$archive" | ctr --namespace k8s.io images import --no-unpack - 2>&1); then
        echo "import $chain"
    else
        echo "failed $chain $(tail -n 1 <<<"$error")"
    fi
}

seed() {
    local how failed= kind a b c d
    declare -A arguments mounting known
    begin_asking "$2"
    how=$(how_to_mount "$1")
    while read -r kind a b c d; do
        if [ "$kind" = layer ]; then
            arguments[$a]="$b $c $d $how"
            mount_layer "$a" "$b" "$c" "$d" "$how" 2>"$work/$a" 5>&- 6<&- 7>&- 9>&- &
            mounting[$a]=$!
        fi
    done <"$work/orders"
    until snapshots list >"$work/snapshots" 2>/dev/null; do read -rt 0.02 -u 8; done
    sed -n 's/^\(kip-seed-[^ ]*\) .*/\1/p' "$work/snapshots" | while read -r a; do snapshots rm "$a"; done
    while read -r a b; do known[$a]=yes; done <"$work/snapshots"
    begin_record
    while read -r kind a b c; do
        case $kind in
            snapshot) seed_snapshot "$a" "$b" "$c" ;;
            import) seed_import "$a" "$b" ;;
        esac
    done <"$work/orders"
}

(
    exec </dev/null >"$work/out" 2>/dev/null 8<> <(:) 7>/run/kip/seed.lock
    flock 7
    seed "$2" "$3"
    echo >&9
) &
done=
if ! read -rt "$1" -u 9; then
    # It stops between two steps, not within one, so there is no snapshot without its layer when this has ended. What waits
    # for the volume ends whenever that comes back, and does no more then.
    touch "$work/stop"
    echo "failed seeding not done after $1 s"
    read -rt 1 -u 9 && done=yes
else
    done=yes
fi
cat "$work/out"
[ -z "$done" ] || rm -rf "$work"
