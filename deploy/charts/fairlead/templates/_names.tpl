{{- /* Everything's labels; the argument is a list of the context and the component. */ -}}
{{- define "fairlead.labels" -}}
{{ include "fairlead.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{- /* What pods are selected by. */ -}}
{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "fairlead.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* HOST:PORT that metrics and health are served on; the argument is a list of the context and the port. */ -}}
{{- define "fairlead.metrics" -}}
{{- $address := (index . 0).Values.metrics.address -}}
{{ if contains ":" $address }}[{{ $address }}]{{ else }}{{ $address }}{{ end }}:{{ index . 1 }}
{{- end }}

{{- /* The spec of the agents' AgentConfig, as YAML; empty where nothing is set. */ -}}
{{- define "fairlead.config" -}}
{{- $config := .Values.config -}}
{{- if not .Values.cni.exclusive -}}
{{- $config = mergeOverwrite (dict "cni" (dict "exclusive" false)) (deepCopy .Values.config) -}}
{{- end -}}
{{- with $config }}{{ toYaml . }}{{ end -}}
{{- end }}
