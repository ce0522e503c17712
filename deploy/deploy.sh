#!/usr/bin/env bash
# Usage: deploy/deploy.sh [--print]
#
# Installs Kip into the EKS cluster that kubectl points at. With --print it only shows what would be applied. Needs
# kubectl 1.22 or newer, and these environment variables:
#
#   CLUSTER_NAME                   required: name of the EKS cluster; Kip's instances are tagged with it
#   USE_REGION                     required: AWS region of the cells, such as us-west-2
#   KIP_SERVICE_ACCOUNT_ROLE_ARN   required: IAM role that the service account kip-provider may assume; it needs
#                                  iam/policy.json and the trust relationship of iam/trust-policy.json
#   IMAGE_REGISTRY, IMAGE_TAG      Kip's own image is $IMAGE_REGISTRY/kip:$IMAGE_TAG. The defaults are Kip Enterprise's,
#                                  where this version is not published: set them to where yours is
#   NAMESPACE                      namespace of Kip, default kip
#   CLUSTER_SECURITY_GROUP         the cluster's security group, such as sg-0123abcd, which cells get too: without it
#                                  they reach neither the cluster's DNS nor its pods. Default: what the aws command
#                                  says of the cluster, if there is one
#   SUBNET_IDS                     subnets of the cells, with commas between them. Default: the one Kip itself runs in
#   VPC_ID                         instead of SUBNET_IDS: any subnet of this VPC
#   CELL_INSTANCE_PROFILE_ARN      instance profile of cells whose pod does not name one
#   NFS_VOLUME_ENDPOINT            volume of the image cache, as `kip efs setup` prints it; docs/image-cache.md has the rest
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAMESPACE=${NAMESPACE:-kip}
IMAGE_REGISTRY=${IMAGE_REGISTRY:-117940112483.dkr.ecr.us-east-1.amazonaws.com/4737f648-c51e-4cca-a3a5-afe7268bf539/cg-2196059056}
IMAGE_TAG=${IMAGE_TAG:-1.0-latest}

warn() {
    echo "deploy.sh: $*" >&2
}

fail() {
    warn "$@"
    exit 1
}

case ${1:-} in
'' | --print) ;;
-h | --help)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$here/deploy.sh"
    exit
    ;;
*) fail "unknown argument $1; expected --print, --help or none" ;;
esac

# Usage: expect NAME PATTERN EXAMPLE; the values go into YAML, so nothing else may be in them.
expect() {
    local value=${!1:-}
    [[ -n $value ]] || fail "$1 is not set; expected something like $3"
    [[ $value =~ ^($2)$ ]] || fail "$1=$value: expected something like $3"
}

# The same for a variable that may be left out.
expect_if_set() {
    [[ -z ${!1:-} ]] || expect "$@"
}

expect CLUSTER_NAME '[A-Za-z0-9][A-Za-z0-9_.-]{0,99}' my-cluster
expect USE_REGION '[a-z]{2,4}(-[a-z]+)+-[0-9]+' us-west-2
expect KIP_SERVICE_ACCOUNT_ROLE_ARN 'arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+' \
    arn:aws:iam::012345678910:role/kip
expect NAMESPACE '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?' kip
expect IMAGE_REGISTRY '[a-z0-9][A-Za-z0-9.:/_-]*' registry.example.com/team
expect IMAGE_TAG '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}' 1.0-latest
expect_if_set CLUSTER_SECURITY_GROUP 'sg-[0-9a-z]+' sg-0123abcd
expect_if_set SUBNET_IDS 'subnet-[0-9a-z]+([, ]+subnet-[0-9a-z]+)*' subnet-0123abcd,subnet-4567cdef
expect_if_set VPC_ID 'vpc-[0-9a-z]+' vpc-0123abcd
expect_if_set CELL_INSTANCE_PROFILE_ARN \
    'arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/[A-Za-z0-9_+=,.@/-]+' \
    arn:aws:iam::012345678910:instance-profile/kip-cell
expect_if_set NFS_VOLUME_ENDPOINT '[A-Za-z0-9.-]+:/[A-Za-z0-9._/-]*' fs-0123abcd.efs.us-west-2.amazonaws.com:/
command -v kubectl >/dev/null || fail "kubectl was not found"

# EKS puts nodes, and with them the pods of the cluster's DNS, into this group, which admits nobody but its own members.
# An installation must not fail for it: whoever runs this may lack the permission, and can name another group later.
find_cluster_security_group() {
    local said
    if ! command -v aws >/dev/null; then
        said="there is no aws command to ask"
    elif said=$(aws eks describe-cluster --name "$CLUSTER_NAME" --region "$USE_REGION" --output text \
        --query cluster.resourcesVpcConfig.clusterSecurityGroupId \
        --cli-connect-timeout 5 --cli-read-timeout 10 2>&1) && [[ $said =~ ^sg-[0-9a-z]+$ ]]; then
        echo "$said"
        return
    fi
    warn "CLUSTER_SECURITY_GROUP is not set and not found (${said##*$'\n'}): cells will reach neither the cluster's" \
        "DNS nor its pods"
}

CLUSTER_SECURITY_GROUP=${CLUSTER_SECURITY_GROUP:-$(find_cluster_security_group)}
subnets=$(sed 's/[, ]\{1,\}/, /g' <<<"${SUBNET_IDS:-}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$here" "$work/deploy"
cp -R "$here/../crds" "$work/crds"
mkdir "$work/installation"

# Lines of what is not set are left empty, and then out: a space at the end of one would make kubectl print all of it as
# one quoted line.
sed '/^$/d' >"$work/deploy/provider.yaml" <<YAML
apiVersion: v1
kind: serverConfig
cloud:
  aws:
    region: $USE_REGION
${VPC_ID:+    vpcID: $VPC_ID}
${subnets:+    subnetID: [$subnets]}
cells:
  defaultInstanceType: t3.small
${CELL_INSTANCE_PROFILE_ARN:+  defaultIAMPermissions: $CELL_INSTANCE_PROFILE_ARN}
${CLUSTER_SECURITY_GROUP:+  extraSecurityGroups: [$CLUSTER_SECURITY_GROUP]}
${NFS_VOLUME_ENDPOINT:+  imageCache: {endpoint: "$NFS_VOLUME_ENDPOINT"}}
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
