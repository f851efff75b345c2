{{- define "mea.selector" -}}
app.kubernetes.io/name: mea
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mea.labels" -}}
{{ include "mea.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "mea.metadata" -}}
name: {{ .Release.Name }}
labels:
  {{- include "mea.labels" . | nindent 2 }}
{{- end }}

{{- define "mea.probe" -}}
httpGet:
  path: /health
  port: admin
  scheme: {{ if .Values.tls.secret }}HTTPS{{ else }}HTTP{{ end }}
timeoutSeconds: 5
{{- end }}

{{- define "mea.args" -}}
- serve
- --listen=0.0.0.0:50051
- --http=0.0.0.0:8000
- --admin=0.0.0.0:9090
- --log-format=json
- --drain-timeout={{ .Values.drainSeconds }}
- --model={{ .Values.model.path }}
{{- with .Values.model.name }}
- --model-name={{ . }}
{{- end }}
{{- if .Values.keys.secret }}
- --api-key-file=/etc/mea/keys/keys.jsonl
{{- else if .Values.insecure }}
- --insecure
{{- else }}
{{- fail "keys.secret is empty: name a Secret with keys.jsonl, or set insecure" }}
{{- end }}
{{- if .Values.tls.secret }}
- --tls-cert=/etc/mea/tls/tls.crt
- --tls-key=/etc/mea/tls/tls.key
{{- end }}
{{- if .Values.weightCache.enabled }}
- --weight-dtype={{ .Values.weightCache.dtype }}
- --weight-cache=/var/cache/mea
{{- end }}
{{- if .Values.gpus }}
- --device=cuda
{{- end }}
{{- if .Values.gateway.enabled }}
- --metrics-compat=vllm
- --open-metrics
{{- end }}
{{- range .Values.args }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "mea.mounts" -}}
{{- if .Values.model.claim }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- if .Values.keys.secret }}
- name: keys
  mountPath: /etc/mea/keys
  readOnly: true
{{- end }}
{{- if .Values.tls.secret }}
- name: tls
  mountPath: /etc/mea/tls
  readOnly: true
{{- end }}
{{- if .Values.weightCache.enabled }}
- name: weight-cache
  mountPath: /var/cache/mea
{{- end }}
{{- end }}

{{- define "mea.volumes" -}}
{{- with .Values.model.claim }}
- name: models
  persistentVolumeClaim:
    claimName: {{ . }}
    readOnly: true
{{- end }}
{{- with .Values.keys.secret }}
- name: keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.tls.secret }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- if .Values.weightCache.enabled }}
- name: weight-cache
  {{- if .Values.weightCache.claim }}
  persistentVolumeClaim:
    claimName: {{ .Values.weightCache.claim }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.weightCache.size }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "mea.resources" -}}
cpu: {{ .Values.resources.cpu | quote }}
memory: {{ .Values.resources.memory }}
{{- with .Values.gpus }}
nvidia.com/gpu: {{ . | quote }}
{{- end }}
{{- end }}
