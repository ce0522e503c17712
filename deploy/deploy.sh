#!/usr/bin/env bash
# Installs Kip into the EKS cluster that kubectl points at, from environment variables; --print shows what would be
# applied. Needs kubectl 1.21 or newer.
#
#   CLUSTER_NAME                   required: name of the cluster; Kip's instances are tagged with it
#   USE_REGION                     required: AWS region of the cells, as us-west-2
#   KIP_SERVICE_ACCOUNT_ROLE_ARN   required: IAM role with iam/policy.json that the service account kip-provider may
#                                  assume (iam/trust-policy.json)
#   NAMESPACE                      default kip
#   IMAGE_REGISTRY, IMAGE_TAG      where Kip's own image is: $IMAGE_REGISTRY/kip:$IMAGE_TAG
#   CELL_INSTANCE_PROFILE_ARN      instance profile of cells whose pod does not name one
#   NFS_VOLUME_ENDPOINT            EFS volume of the image cache
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAMESPACE=${NAMESPACE:-kip}
IMAGE_REGISTRY=${IMAGE_REGISTRY:-117940112483.dkr.ecr.us-east-1.amazonaws.com/4737f648-c51e-4cca-a3a5-afe7268bf539/cg-2196059056}
IMAGE_TAG=${IMAGE_TAG:-1.0-latest}

fail() {
    echo "deploy.sh: $*" >&2
    exit 1
}

# Usage: expect NAME PATTERN EXAMPLE; the values go into YAML, so nothing else may be in them.
expect() {
    local value=${!1:-}
    [[ -n $value ]] || fail "$1 is not set; expected something like $3"
    [[ $value =~ ^($2)$ ]] || fail "$1=$value: expected something like $3"
}

expect CLUSTER_NAME '[A-Za-z0-9][A-Za-z0-9_.-]{0,99}' my-cluster
expect USE_REGION '[a-z]{2,4}(-[a-z]+)+-[0-9]+' us-west-2
expect KIP_SERVICE_ACCOUNT_ROLE_ARN 'arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+' \
    arn:aws:iam::012345678910:role/kip
expect NAMESPACE '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?' kip
expect IMAGE_REGISTRY '[a-z0-9][A-Za-z0-9.:/_-]*' registry.example.com/team
expect IMAGE_TAG '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}' 1.0-latest
[[ -z ${CELL_INSTANCE_PROFILE_ARN:-} ]] || expect CELL_INSTANCE_PROFILE_ARN \
    'arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/[A-Za-z0-9_+=,.@/-]+' \
    arn:aws:iam::012345678910:instance-profile/kip-cell
[[ -z ${NFS_VOLUME_ENDPOINT:-} ]] ||
    echo "deploy.sh: NFS_VOLUME_ENDPOINT is set, but this version has no image cache yet; it is not used" >&2
command -v kubectl >/dev/null || fail "kubectl was not found"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$here" "$work/deploy"
cp -R "$here/../crds" "$work/crds"
mkdir "$work/installation"

cat >"$work/deploy/provider.yaml" <<YAML
apiVersion: v1
kind: serverConfig
cloud:
  aws:
    region: $USE_REGION
cells:
  defaultInstanceType: t3.small
  defaultIAMPermissions: ${CELL_INSTANCE_PROFILE_ARN:-}
kubelet:
  nodeNamePrefix: kip-provider
  nodes: 1
  servingCertificate:
    # EKS signs kubernetes.io/kubelet-serving for EC2 instances only.
    signerName: beta.eks.amazonaws.com/app-serving
cluster:
  name: $CLUSTER_NAME
YAML

cat >"$work/installation/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../deploy]
images:
  - name: kip
    newName: $IMAGE_REGISTRY/kip
    newTag: "$IMAGE_TAG"
patches:
  - target: {kind: ServiceAccount, name: kip-provider}
    patch: |
      - op: add
        path: /metadata/annotations
        value: {eks.amazonaws.com/role-arn: "$KIP_SERVICE_ACCOUNT_ROLE_ARN"}
  - target: {kind: Namespace, name: kip}
    options: {allowNameChange: true}
    patch: |
      - op: replace
        path: /metadata/name
        value: "$NAMESPACE"
YAML

# Namespaces are written out in every object (see kustomization.yaml), on a line of their own.
kubectl kustomize "$work/installation" | sed "s/^\( *\)namespace: kip\$/\1namespace: $NAMESPACE/" >"$work/all.yaml"

if [[ ${1:-} == --print ]]; then
    cat "$work/all.yaml"
    exit
fi
kubectl apply -f "$work/all.yaml"
echo "Kip is being started. To see it: kubectl --namespace $NAMESPACE get pods; kubectl get nodes"
