{{/* Labels of every object. */}}
{{- define "cloudimage-operator.labels" -}}
app.kubernetes.io/name: cloudimage-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels that select the Pods of a component. The manager finds the agents by them. */}}
{{- define "cloudimage-operator.selector" -}}
app.kubernetes.io/name: cloudimage-operator
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Reference of an image; takes a dict with root and image. */}}
{{- define "cloudimage-operator.image" -}}
{{- $name := printf "%s/%s" .root.Values.image.registry .image.name -}}
{{- if .image.digest -}}
{{ $name }}@{{ .image.digest }}
{{- else -}}
{{ $name }}:{{ default .root.Chart.AppVersion .root.Values.image.tag }}
{{- end -}}
{{- end }}

{{/* Flags, mounts and volumes of the metrics of both programs. What is default is not said. */}}
{{- define "cloudimage-operator.metricsFlags" -}}
- --metrics-bind-address=:8080
{{- if not .secure }}
- --metrics-secure=false
{{- end }}
{{- if and .secure .certSecret }}
- --metrics-cert-dir=/etc/cloudimage/metrics
{{- end }}
{{- end }}

{{- define "cloudimage-operator.metricsMount" -}}
- name: metrics
  mountPath: /etc/cloudimage/metrics
  readOnly: true
{{- end }}

{{- define "cloudimage-operator.metricsVolume" -}}
- name: metrics
  secret:
    secretName: {{ .certSecret }}
{{- end }}

{{/* What Kubernetes' restricted Pod security standard asks of a Pod. */}}
{{- define "cloudimage-operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What it asks of a container, and a read-only root. */}}
{{- define "cloudimage-operator.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/*
Objects of a file that is copied from config/, with the release's namespaces and labels. Takes a dict with root, file and,
optionally, annotations. The file is the one source: nothing of it is written a second time here.
*/}}
{{- define "cloudimage-operator.objects" -}}
{{- $text := .root.Files.Get .file | replace "cloudimage-sources" "\u0000" | replace "cloudimage-system" .root.Release.Namespace | replace "\u0000" .root.Values.sourceNamespace.name -}}
{{- $labels := include "cloudimage-operator.labels" .root | fromYaml -}}
{{- range splitList "\n---\n" (printf "\n%s" $text) }}
{{- $object := fromYaml . }}
{{- if $object }}
{{- $metadata := $object.metadata }}
{{- $_ := set $metadata "labels" (merge (dict) $labels (default (dict) $metadata.labels)) }}
{{- with $.annotations }}
{{- $_ := set $metadata "annotations" (merge (dict) . (default (dict) $metadata.annotations)) }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
{{- end }}

{{/* Who may reach the metrics' port; nothing is everybody. */}}
{{- define "cloudimage-operator.metricsFrom" -}}
{{- if kindIs "slice" .Values.networkPolicy.metricsFrom }}
{{- with .Values.networkPolicy.metricsFrom }}{{ toYaml . }}{{ end }}
{{- else -}}
- podSelector: {}
- namespaceSelector:
    matchLabels:
      metrics: enabled
{{- $namespaces := list }}
{{- range .Values.metrics.readers }}{{ with .namespace }}{{ $namespaces = append $namespaces . }}{{ end }}{{ end }}
{{- range without ($namespaces | uniq | sortAlpha) .Release.Namespace }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
