#!/usr/bin/env bash
# Starts a Kubernetes of one node in the network namespace `kube`, which this machine reaches and which has no
# way out of it: etcd, the control plane with RBAC, kubelet, kube-proxy, containerd, and a registry of images
# at 10.244.0.1:5000. Needs root, and WORK with what build.sh makes. State and logs are in WORK/node; down.sh
# ends it all. No DNS: names are for /etc/hosts, or variables and addresses of Services.
set -euo pipefail
: "${WORK:?the folder of build.sh}"
here=$(cd "$(dirname "$0")" && pwd)
node=$WORK/node
address=10.244.0.1
services=10.96.0.0/16
# Ends of the cable between this machine and the namespace.
outer=10.245.0.1
inner=10.245.0.2
socket=$node/containerd-state/containerd.sock
[[ ! -e /run/netns/kube ]] || bash "$here/down.sh"
mkdir --parents "$node"/{pki,log,pid,registry,cni,containerd-root,containerd-state}
cd "$node"

# Not `ip netns exec`: its mounts would not be those of the machine.
inside() { nsenter --net=/run/netns/kube "$@"; }

# start NAME COMMAND...: runs it in the namespace and records its process.
start() {
  local name=$1
  shift
  # Not by the function above: the process recorded would be that of a shell around it.
  nsenter --net=/run/netns/kube "$@" > "log/$name.log" 2>&1 &
  echo $! > "pid/$name"
}

# await SECONDS WHAT COMMAND...
await() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    ((SECONDS < end)) || { echo "error: no $what; logs are in $node/log" >&2; exit 1; }
    sleep 0.3
  done
}

make_network() {
  ip netns add kube
  inside ip link set lo up
  inside ip link add kube0 type bridge
  inside ip address add $address/24 dev kube0
  inside ip link set kube0 up
  inside ip route add $services dev kube0
  inside sysctl --quiet --write net.ipv4.ip_forward=1
  ip link add kube-outer type veth peer name kube-inner netns kube
  ip address add $outer/30 dev kube-outer
  inside ip address add $inner/30 dev kube-inner
  ip link set kube-outer up
  inside ip link set kube-inner up
  ip route add 10.244.0.0/24 via $inner
  ip route add $services via $inner
  cat > cni/10-kube0.conflist <<JSON
{"cniVersion": "0.4.0", "name": "kube", "plugins": [
  {"type": "bridge", "bridge": "kube0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$node/ipam",
            "ranges": [[{"subnet": "10.244.0.0/24", "gateway": "$address"}]], "routes": [{"dst": "$services"}, {"dst": "10.245.0.0/30"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

# write_kubeconfig NAME TOKEN
write_kubeconfig() {
  cat > "pki/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$address:6443", certificate-authority: $node/pki/apiserver.crt}}]
users: [{name: $1, user: {token: $2}}]
contexts: [{name: test, context: {cluster: test, user: $1}}]
current-context: test
YAML
}

make_credentials() {
  openssl genrsa -out pki/accounts.key 2048 2> /dev/null
  openssl rsa -in pki/accounts.key -pubout -out pki/accounts.pub 2> /dev/null
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -keyout pki/apiserver.key -out pki/apiserver.crt \
    -subj /CN=kube-apiserver \
    -addext "subjectAltName=IP:$address,IP:127.0.0.1,IP:10.96.0.1,DNS:kubernetes.default.svc" 2> /dev/null
  local name user
  for name in admin node controller-manager scheduler proxy; do
    case $name in
      admin) user='admin,admin,"system:masters"' ;;
      node) user='system:node:node,node,"system:nodes"' ;;
      *) user="system:kube-$name,$name" ;;
    esac
    local token
    token=$(openssl rand -hex 16)
    echo "$token,$user" >> pki/tokens.csv
    write_kubeconfig "$name" "$token"
  done
}

start_control_plane() {
  start etcd etcd --data-dir etcd --unsafe-no-fsync --listen-peer-urls http://127.0.0.1:2380 \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
  start apiserver "$WORK/kbin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --cert-dir=pki \
    --bind-address=$address --advertise-address=$address --secure-port=6443 \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --token-auth-file=pki/tokens.csv \
    --kubelet-preferred-address-types=InternalIP --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=false \
    --service-cluster-ip-range=$services --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=pki/accounts.pub --service-account-signing-key-file=pki/accounts.key
  await 60 'API server' kubectl get --raw /readyz
  start controller-manager "$WORK/kbin/kube-controller-manager" --kubeconfig=pki/controller-manager.kubeconfig \
    --leader-elect=false --use-service-account-credentials=true --root-ca-file=pki/apiserver.crt \
    --service-account-private-key-file=pki/accounts.key --bind-address=127.0.0.1 --port=0
  start scheduler "$WORK/kbin/kube-scheduler" --kubeconfig=pki/scheduler.kubeconfig --leader-elect=false \
    --bind-address=127.0.0.1 --port=0
}

kubectl() { inside "${KUBECTL:-kubectl}" --kubeconfig "$node/pki/admin.kubeconfig" "$@"; }

start_containerd() {
  # restrict_oom_score_adj: without the right to lower a score, a container would not start.
  cat > containerd.toml <<TOML
version = 2
root = "$node/containerd-root"
state = "$node/containerd-state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
                    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:3.2"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."$address:5000"]
    endpoint = ["http://$address:5000"]
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$node/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = ""
TOML
  start containerd containerd --config containerd.toml
  await 30 containerd ctr --address "$socket" version
  podman save --quiet localhost/pause:3.2 | ctr --address "$socket" --namespace k8s.io images import - > /dev/null
}

start_node() {
  : > resolv.conf
  # kubelet sets these for the whole machine; down.sh sets them back.
  sysctl vm.overcommit_memory kernel.panic kernel.panic_on_oops > sysctl.saved
  cat > kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /
failSwapOn: false
resolvConf: $node/resolv.conf
enforceNodeAllocatable: []
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
# Both are lower by default than a machine without CAP_SYS_RESOURCE allows.
maxOpenFiles: 20000
oomScoreAdj: 0
YAML
  start kubelet "$WORK/kbin/kubelet" --config=kubelet.yaml --kubeconfig=pki/node.kubeconfig --hostname-override=node \
    --node-ip=$address --root-dir="$node/kubelet" --cert-dir=pki --container-runtime=remote \
    --container-runtime-endpoint="unix://$socket"
  start proxy "$WORK/kbin/kube-proxy" --kubeconfig=pki/proxy.kubeconfig --hostname-override=node --proxy-mode=iptables \
    --cluster-cidr=10.244.0.0/24 --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 \
    --conntrack-tcp-timeout-close-wait=0 --metrics-bind-address=127.0.0.1 --healthz-bind-address=127.0.0.1
  await 60 'node that is ready' kubectl wait --for=condition=Ready node/node --timeout=1s
}

start_registry() {
  cat > registry.yaml <<YAML
version: 0.1
storage: {filesystem: {rootdirectory: $node/registry}, delete: {enabled: true}}
http: {addr: "$address:5000"}
YAML
  start registry docker-registry serve registry.yaml
  await 30 registry curl --fail --silent --noproxy '*' "http://$address:5000/v2/"
}

# Volumes for claims, in place of a provisioner.
make_volumes() {
  local number
  for number in 1 2; do
    mkdir --mode=777 "volume-$number"
    kubectl create --filename - <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume-$number}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: $node/volume-$number}
YAML
  done
}

make_network
make_credentials
start_control_plane
start_containerd
start_node
start_registry
make_volumes
kubectl get nodes
