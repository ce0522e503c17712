{{- /* What Kip's processes and the Job that cleans up have in common. */ -}}

{{- define "kip.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kip.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "kip.env" -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
# Cells go where this node is, when nothing else says where.
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "kip.nodeAffinity" -}}
requiredDuringSchedulingIgnoredDuringExecution:
  nodeSelectorTerms:
    # Not on a node that is served by this very Deployment.
    - matchExpressions:
        - {key: type, operator: NotIn, values: [virtual-kubelet]}
        - {key: kubernetes.io/os, operator: In, values: [linux]}
{{- end -}}

{{- define "kip.volumeMounts" -}}
- {name: config, mountPath: /etc/kip, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "kip.volumes" -}}
- name: config
  configMap: {name: kip-provider}
- name: tmp
  emptyDir: {}
{{- end -}}

{{- /* Where the pod may run, and from where its image comes. */ -}}
{{- define "kip.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
