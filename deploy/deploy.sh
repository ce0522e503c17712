#!/usr/bin/env bash
# Usage: deploy/deploy.sh [--dry-run]
#        deploy/deploy.sh --uninstall [--drain | --kill]
#
# Installs Kip into the EKS cluster that kubectl points at, or brings an installation up to date: it may be repeated. With
# --dry-run it only shows what would be applied. Needs kubectl 1.22 or newer, envsubst, and these environment variables:
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
#   ECR_LOGINS                     false keeps pods from pulling from ECR with Kip's role, default true; docs/security.md
#   NFS_VOLUME_ENDPOINT            volume of the image cache, as `kip efs setup` prints it; with it, the controller that
#                                  fills it runs. docs/image-cache.md has the rest
#
# --uninstall, with the same variables, removes all of it: Kip's processes, its instances, what it has made in AWS and in
# the cluster, its type and its namespace. While pods run on the virtual nodes it removes nothing and lists them; with
# --drain they are evicted and waited for, with --kill they lose their machines.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
export NAMESPACE=${NAMESPACE:-kip}
registry_given=${IMAGE_REGISTRY:+yes}
export IMAGE_REGISTRY=${IMAGE_REGISTRY:-117940112483.dkr.ecr.us-east-1.amazonaws.com/4737f648-c51e-4cca-a3a5-afe7268bf539/cg-2196059056}
export IMAGE_TAG=${IMAGE_TAG:-1.0-latest}
export VPC_ID=${VPC_ID:-} SUBNET_IDS=${SUBNET_IDS:-} CELL_INSTANCE_PROFILE_ARN=${CELL_INSTANCE_PROFILE_ARN:-}
export NFS_VOLUME_ENDPOINT=${NFS_VOLUME_ENDPOINT:-} ECR_LOGINS=${ECR_LOGINS:-true}
export NFS_SERVER=${NFS_VOLUME_ENDPOINT%%:*} NFS_PATH=${NFS_VOLUME_ENDPOINT#*:}
export COMPONENTS=${NFS_VOLUME_ENDPOINT:+../image-cache}
problems=()

warn() {
    echo "deploy.sh: $*" >&2
}

fail() {
    warn "$@"
    exit 1
}

action=install how=()
while (($#)); do
    case $1 in
    --dry-run | --print) action=print ;;
    --uninstall) action=uninstall ;;
    --drain) how=(--drain) ;;
    --kill) how=(--force) ;;
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$here/deploy.sh" | sed '/^set /d'
        exit
        ;;
    *) fail "unknown argument $1; expected --dry-run, --uninstall, --help or none" ;;
    esac
    shift
done
[[ $action == uninstall || -z ${how[*]:-} ]] || fail "--drain and --kill are for --uninstall"

# Usage: expect NAME PATTERN EXAMPLE; the values go into YAML, so nothing else may be in them.
expect() {
    local value=${!1:-}
    if [[ -z $value ]]; then
        problems+=("$1 is not set; expected something like $3")
    elif [[ ! $value =~ ^($2)$ ]]; then
        problems+=("$1=$value: expected something like $3")
    fi
}

# The same for a variable that may be left out.
expect_if_set() {
    [[ -z ${!1:-} ]] || expect "$@"
}

expect CLUSTER_NAME '[A-Za-z0-9]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?' my-cluster
expect USE_REGION '[a-z]{2,4}(-[a-z]+)+-[0-9]+' us-west-2
expect KIP_SERVICE_ACCOUNT_ROLE_ARN 'arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]+' \
    "arn:aws:iam::012345678910:role/kip (an account has 12 digits)"
expect NAMESPACE '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?' kip
expect IMAGE_REGISTRY '[a-z0-9][A-Za-z0-9.:/_-]*' registry.example.com/team
expect IMAGE_TAG '[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}' 1.0-latest
expect_if_set CLUSTER_SECURITY_GROUP 'sg-[0-9a-z]+' sg-0123abcd
expect_if_set SUBNET_IDS 'subnet-[0-9a-z]+([, ]+subnet-[0-9a-z]+)*' subnet-0123abcd,subnet-4567cdef
expect_if_set VPC_ID 'vpc-[0-9a-z]+' vpc-0123abcd
expect_if_set CELL_INSTANCE_PROFILE_ARN \
    'arn:aws[a-z-]*:iam::[0-9]{12}:instance-profile/[A-Za-z0-9_+=,.@/-]+' \
    "arn:aws:iam::012345678910:instance-profile/kip-cell (an account has 12 digits)"
expect ECR_LOGINS 'true|false' false
expect_if_set NFS_VOLUME_ENDPOINT '[A-Za-z0-9.-]+:/[A-Za-z0-9._/-]*' fs-0123abcd.efs.us-west-2.amazonaws.com:/
command -v kubectl >/dev/null || problems+=("kubectl was not found; expected 1.22 or newer")
command -v envsubst >/dev/null || problems+=("envsubst was not found; it is part of GNU gettext (package gettext-base)")
if ((${#problems[@]})); then
    for problem in "${problems[@]}"; do
        warn "$problem"
    done
    exit 1
fi

# Asked first and once, instead of leaving the same to each call of kubectl.
reach_cluster() {
    local said
    said=$(kubectl get --raw /version --request-timeout=15s 2>&1) ||
        fail "kubectl reaches no cluster (${said##*$'\n'}); for one on EKS:" \
            "aws eks update-kubeconfig --name $CLUSTER_NAME --region $USE_REGION"
}

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

[[ $action == print ]] || reach_cluster
export CLUSTER_SECURITY_GROUP=${CLUSTER_SECURITY_GROUP:-}
if [[ $action != uninstall ]]; then
    CLUSTER_SECURITY_GROUP=${CLUSTER_SECURITY_GROUP:-$(find_cluster_security_group)}
    [[ $registry_given ]] || warn "IMAGE_REGISTRY is not set: $IMAGE_REGISTRY/kip:$IMAGE_TAG is Kip Enterprise's," \
        "and this version is not published there"
fi
SUBNET_IDS=$(sed 's/[, ]\{1,\}/, /g' <<<"$SUBNET_IDS")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/deploy"
cp -R "$here/kustomize" "$work/deploy/kustomize"
cp -R "$here/../crds" "$work/crds"

# Usage: fill_in FILE; only these variables: nothing else in a file is to be taken for one.
fill_in() {
    # shellcheck disable=SC2016 # envsubst reads their names
    envsubst '$CLUSTER_NAME $USE_REGION $KIP_SERVICE_ACCOUNT_ROLE_ARN $IMAGE_REGISTRY $IMAGE_TAG $NAMESPACE
        $CLUSTER_SECURITY_GROUP $SUBNET_IDS $VPC_ID $CELL_INSTANCE_PROFILE_ARN
        $ECR_LOGINS $NFS_VOLUME_ENDPOINT $NFS_SERVER $NFS_PATH $COMPONENTS' \
        <"$here/kustomize/$1" >"$work/deploy/kustomize/$1"
}

# Usage: render DIRECTORY; namespaces are written out in every object, on a line of their own.
render() {
    kubectl kustomize "$work/deploy/kustomize/$1" |
        sed "s/^\( *\)namespace: kip\$/\1namespace: $NAMESPACE/" >"$work/$1.yaml"
}

fill_in installation/provider.yaml
fill_in installation/kustomization.yaml
fill_in image-cache/volume.yaml
fill_in uninstall/kustomization.yaml
cp "$work/deploy/kustomize/installation/provider.yaml" "$work/deploy/kustomize/uninstall/provider.yaml"
# An empty array, and a line feed in what sed puts in, as bash 3.2 and sed of macOS take them.
for option in ${how[@]+"${how[@]}"}; do
    sed -i.before "s/^\( *\)- --yes\$/&\\
\1- $option/" "$work/deploy/kustomize/uninstall/job.yaml"
done

# How the Job ended: 1 and nothing, nothing and 1, or nothing at all as long as it runs.
job_state() {
    kubectl --namespace "$NAMESPACE" get job kip-uninstall -o 'jsonpath={.status.succeeded}/{.status.failed}'
}

clean_up() {
    local state=/
    [[ $(kubectl get namespace "$NAMESPACE" --ignore-not-found --output name) ]] ||
        fail "there is no namespace $NAMESPACE: Kip is not installed there; NAMESPACE says where it is"
    kubectl --namespace "$NAMESPACE" delete job kip-uninstall --ignore-not-found
    kubectl apply -f "$work/uninstall.yaml"
    while [[ $state == / ]]; do
        sleep 1
        state=$(job_state)
    done
    kubectl --namespace "$NAMESPACE" logs job/kip-uninstall || true
    kubectl delete -f "$work/uninstall.yaml"
    [[ $state == 1/* ]] || fail "nothing more is removed; what is in the way is above"
}

render installation
case $action in
print) cat "$work/installation.yaml" ;;
install)
    kubectl apply -f "$work/installation.yaml"
    echo "Kip is being started. To see it: kubectl --namespace $NAMESPACE get pods; kubectl get nodes"
    echo "Whether all is well: kubectl --namespace $NAMESPACE exec deploy/kip-provider -- kip doctor --in-cluster"
    ;;
uninstall)
    render uninstall
    clean_up
    kubectl delete --ignore-not-found -f "$work/installation.yaml"
    echo "Kip and all that it made are gone."
    ;;
esac
