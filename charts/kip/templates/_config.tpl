{{- /* provider.yaml as the values make it. Whoever needs one of its keys reads it from here: `config` may change any. */ -}}
{{- define "kip.config" -}}
{{- $made := dict
  "apiVersion" "v1"
  "kind" "serverConfig"
  "cloud" (dict "aws" (dict
    "region" (required "region: the AWS region of the cells" .Values.region)
    "vpcID" .Values.vpcID
    "subnetID" .Values.subnetIDs))
  "cells" (dict
    "defaultIAMPermissions" .Values.instanceProfile
    "imageCache" (dict "endpoint" .Values.imageCache.endpoint)
    "extraSecurityGroups" list)
  "kubelet" (dict
    "nodeNamePrefix" "kip-provider"
    "nodes" (int .Values.nodes)
    "servingCertificate" (dict "signerName" "beta.eks.amazonaws.com/app-serving"))
  "cluster" (dict
    "name" (required "clusterName: a name for the cluster" .Values.clusterName)
    "impersonateNode" .Values.rbac.impersonateNode) -}}
{{- $config := mergeOverwrite $made (deepCopy .Values.config) -}}
{{- /* Added, so that groups in `config` do not take the cluster's away. */ -}}
{{- with .Values.clusterSecurityGroup -}}
{{- $_ := set $config.cells "extraSecurityGroups" (uniq (prepend $config.cells.extraSecurityGroups .)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
