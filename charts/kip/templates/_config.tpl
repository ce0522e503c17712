{{- /* provider.yaml as the values make it. */ -}}
{{- define "kip.config" -}}
{{- $made := dict
  "apiVersion" "v1"
  "kind" "serverConfig"
  "cloud" (dict "aws" (dict "region" (required "region: the AWS region of the cells" .Values.region)))
  "kubelet" (dict
    "nodeNamePrefix" "kip-provider"
    "nodes" (int .Values.nodes)
    "servingCertificate" (dict "signerName" "beta.eks.amazonaws.com/app-serving"))
  "cluster" (dict
    "name" (required "clusterName: a name for the cluster" .Values.clusterName)
    "impersonateNode" .Values.rbac.impersonateNode) -}}
{{- toYaml (mergeOverwrite $made (deepCopy .Values.config)) -}}
{{- end -}}
