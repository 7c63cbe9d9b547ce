#!/usr/bin/env bash
# Ends the cluster of up.sh: its pods and processes, by what up.sh recorded, then mounts, control groups,
# namespaces and settings. Leaves what build.sh made.
set -uo pipefail
: "${WORK:?the folder of build.sh}"
node=$WORK/node
containers() { ctr --address "$node/containerd-state/containerd.sock" --namespace k8s.io "$@" 2> /dev/null; }

stop() {
  local process
  process=$(cat "$node/pid/$1" 2> /dev/null) || return 0
  kill "$process" 2> /dev/null
  for _ in {1..30}; do
    kill -0 "$process" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -9 "$process" 2> /dev/null
}

for name in kubelet scheduler controller-manager proxy registry; do stop "$name"; done
networks=$(for id in $(containers containers list --quiet); do containers containers info "$id"; done \
  | grep --only-matching '/[a-z/]*netns/cni-[0-9a-f-]*' | sort --unique)
for id in $(containers tasks list --quiet); do containers tasks kill --signal KILL "$id"; done
sleep 1
for id in $(containers tasks list --quiet); do containers tasks rm --force "$id"; done > /dev/null
for id in $(containers containers list --quiet); do containers containers rm "$id"; done
for name in containerd apiserver etcd; do stop "$name"; done
pkill --full "containerd-shim-runc-v2.*$node/containerd-state"
awk -v prefix="$node/" 'index($2, prefix) == 1 {print $2}' /proc/mounts | sort --reverse | xargs --no-run-if-empty --max-args=1 umount --lazy
for network in $networks; do ip netns delete "$(basename "$network")"; done 2> /dev/null
ip netns delete kube 2> /dev/null
for groups in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
  [[ -d $groups ]] && find "$groups" -depth -type d -exec rmdir {} \; 2> /dev/null
done
[[ -s $node/sysctl.saved ]] && sysctl --quiet --load "$node/sysctl.saved"
rm --recursive --force "$node"
