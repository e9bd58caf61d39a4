{{/*
Names and labels: what things are called, and by what they find each other.
*/}}

{{- define "maestro.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of a pool's objects. Takes root and pool (its name). */}}
{{- define "maestro.poolName" -}}
{{- $name := printf "%s-worker-%s" (include "maestro.fullname" .root) .pool -}}
{{- if gt (len $name) 52 -}}
{{- fail (printf "workerPools.%s: the name `%s` has %d letters, expected at most 52, since Kubernetes puts more behind it; shorten the name of the pool or of the release (fullnameOverride)" .pool $name (len $name)) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* What selects the pods of a role. Takes root, role, and pool for workers. */}}
{{- define "maestro.selector" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- if .pool }}
maestro/pool: {{ .pool }}
{{- end }}
{{- end -}}

{{/* Labels of every object. Takes root, role, pool for workers, and extraLabels if there are any. */}}
{{- define "maestro.labels" -}}
{{ include "maestro.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .extraLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Name, labels and annotations of an object. Takes root, role, name, and pool for workers. */}}
{{- define "maestro.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "maestro.labels" . | nindent 2 }}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An image as Kubernetes names it. Takes image and version (where it names no tag). */}}
{{- define "maestro.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .version) -}}
{{- end -}}
{{- end -}}

{{- define "maestro.serviceAccount" -}}
{{- if .root.Values.serviceAccount.create -}}
{{- printf "%s-%s" (include "maestro.fullname" .root) .role -}}
{{- else -}}
{{- .root.Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "maestro.agentTypesConfigMap" -}}
{{- if .Values.agentTypesConfigMap -}}
{{- .Values.agentTypesConfigMap -}}
{{- else if .Values.agentTypes -}}
{{- printf "%s-agents" (include "maestro.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "maestro.workflowsConfigMap" -}}
{{- if .Values.workflowsConfigMap -}}
{{- .Values.workflowsConfigMap -}}
{{- else if .Values.workflows -}}
{{- printf "%s-workflows" (include "maestro.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "maestro.snapshotClaim" -}}
{{- .Values.snapshots.persistence.existingClaim | default (printf "%s-snapshots" (include "maestro.fullname" .)) -}}
{{- end -}}
