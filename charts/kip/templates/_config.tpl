{{- /* provider.yaml as the values make it. Whoever needs one of its keys reads it from here: `config` may change any. */ -}}
{{- define "kip.config" -}}
{{- $missing := list -}}
{{- range $name, $example := dict "clusterName" "my-cluster" "region" "us-west-2" -}}
{{- if not (get $.Values $name) -}}{{- $missing = append $missing (printf "--set %s=%s" $name $example) -}}{{- end -}}
{{- end -}}
{{- with $missing -}}{{- fail (printf "not set, but needed, such as by %s" (join " " .)) -}}{{- end -}}
{{- $made := dict
  "apiVersion" "v1"
  "kind" "serverConfig"
  "cloud" (dict "aws" (dict
    "region" .Values.region
    "vpcID" .Values.vpcID
    "subnetID" .Values.subnetIDs))
  "cells" (dict
    "defaultIAMPermissions" .Values.instanceProfile
    "imageCache" (dict "endpoint" .Values.imageCache.endpoint)
    "extraSecurityGroups" list)
  "registries" (dict "ecrLogins" (dict
    "enabled" .Values.ecrLogins.enabled
    "accounts" .Values.ecrLogins.accounts))
  "kubelet" (dict
    "nodeNamePrefix" "kip-provider"
    "nodes" (int .Values.nodes)
    "servingCertificate" (dict "signerName" "beta.eks.amazonaws.com/app-serving"))
  "cluster" (dict
    "name" .Values.clusterName
    "impersonateNode" .Values.rbac.impersonateNode) -}}
{{- $config := mergeOverwrite $made (deepCopy .Values.config) -}}
{{- /* Added, so that groups in `config` do not take the cluster's away. */ -}}
{{- with .Values.clusterSecurityGroup -}}
{{- $_ := set $config.cells "extraSecurityGroups" (uniq (prepend $config.cells.extraSecurityGroups .)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
