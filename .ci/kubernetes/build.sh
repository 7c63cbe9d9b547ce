#!/usr/bin/env bash
# Builds Kubernetes 1.20.2, the newest whose source Debian has whole, into WORK/kbin: kube-apiserver,
# kube-controller-manager, kube-scheduler, kubelet and kube-proxy. Needs golang-go and dpkg-dev; minutes.
set -euo pipefail
: "${WORK:?the folder to build in}"
mkdir --parents "$WORK"/{apt/lists/partial,apt/cache/archives/partial,source,kbin,go/src/k8s.io}

fetch_source() {
  local mirror
  mirror=$(awk '/^URIs/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" > "$WORK/apt/sources.list"
  cat > "$WORK/apt/apt.conf" <<CONF
Dir::State::lists "$WORK/apt/lists"; Dir::Cache "$WORK/apt/cache"; Dir::Etc::sourcelist "$WORK/apt/sources.list";
Dir::Etc::sourceparts "-"; APT::Sandbox::User "root";
CONF
  export APT_CONFIG=$WORK/apt/apt.conf
  apt-get --quiet=2 update
  cd "$WORK/source"
  apt-get --quiet=2 source --download-only kubernetes
  dpkg-source --no-check --extract --skip-patches kubernetes_*.dsc kubernetes-1.20.2 > /dev/null
  unset APT_CONFIG
}

[[ -d $WORK/source/kubernetes-1.20.2 ]] || fetch_source
ln --symbolic --force --no-dereference "$WORK/source/kubernetes-1.20.2" "$WORK/go/src/k8s.io/kubernetes"
# By GOPATH: its go.mod is too old for modules, and all it needs is in vendor/.
export GOPATH=$WORK/go GOCACHE=$WORK/go-cache GO111MODULE=off GOPROXY=off GOFLAGS=-trimpath CGO_ENABLED=0
# Built with -trimpath, openapi-gen cannot find it by itself.
GOROOT=$(go env GOROOT)
export GOROOT
cd "$GOPATH/src/k8s.io/kubernetes"
vendor=k8s.io/kubernetes/vendor

# Not in the tarball: upstream generates it with each build.
if [[ ! -s pkg/generated/openapi/zz_generated.openapi.go ]]; then
  go build -o "$WORK/kbin/openapi-gen" $vendor/k8s.io/kube-openapi/cmd/openapi-gen
  packages=$(grep --recursive --files-with-matches '+k8s:openapi-gen=' --include='*.go' staging/src/k8s.io pkg \
    | grep --extended-regexp --invert-match '_test.go|code-generator|sample-apiserver|zz_generated|/testdata/' \
    | xargs --max-args=1 dirname | sort --unique \
    | sed --expression "s,^staging/src/,$vendor/," --expression 's,^pkg/,k8s.io/kubernetes/pkg/,' | paste --serial --delimiters=,)
  "$WORK/kbin/openapi-gen" --logtostderr -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h hack/boilerplate/boilerplate.generatego.txt -r /dev/null -o "$GOPATH/src"
fi
flags='-s -w'
for package in component-base/version client-go/pkg/version; do
  for value in gitVersion=v1.20.2 gitMajor=1 gitMinor=20; do
    flags+=" -X $vendor/k8s.io/$package.$value"
  done
done
# Without the clients of clouds and of docker, which are half of it.
go build -tags 'providerless dockerless' -ldflags "$flags" -o "$WORK/kbin/" \
  k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy}
