{{- define "sonoshare.labels" -}}
app.kubernetes.io/name: sonoshare
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "sonoshare.selector" -}}
{app.kubernetes.io/instance: {{ .root.Release.Name }}, app.kubernetes.io/component: {{ .component }}}
{{- end }}
{{- define "sonoshare.pod" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "sonoshare.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
{{- define "sonoshare.secrets" -}}
{{- if .Values.existingSecret }}
- {name: DATABASE_URL_FILE, value: /run/secrets/sonoshare/database-url}
- {name: SONOSHARE_BLOBS_FILE, value: /run/secrets/sonoshare/blobs-url}
{{- end }}
{{- end }}
{{- define "sonoshare.egress" -}}
- to: [{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- range .Values.egressCidrs }}
- to: [{ipBlock: {cidr: {{ . | quote }}}}]
{{- end }}
{{- end }}
