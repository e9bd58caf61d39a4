{{/*
Parts of pods that several roles share.
*/}}

{{/* What every Maestro process is told. Takes root. */}}
{{- define "maestro.env" -}}
{{- include "maestro.redisEnv" .root }}
- name: MAESTRO_NAMESPACE
  value: {{ .root.Values.namespace | quote }}
- name: MAESTRO_LOG_LEVEL
  value: {{ .root.Values.logLevel | quote }}
- name: MAESTRO_LOG_FORMAT
  value: {{ .root.Values.logFormat | quote }}
- name: MAESTRO_AGENTS_DIR
  value: /etc/maestro/agents.d
- name: MAESTRO_METRICS_PORT
  value: {{ .root.Values.metrics.port | quote }}
{{- range $key, $value := .root.Values.settings }}
- name: MAESTRO_{{ upper $key }}
  value: {{ $value | toString | quote }}
{{- end }}
# What a program writes beside its work goes to an empty folder: the image cannot be written.
- name: HOME
  value: /tmp
{{- end -}}

{{/* Where Redis is. A password stands in a Secret alone; Kubernetes puts it in. */}}
{{- define "maestro.redisEnv" -}}
{{- if .Values.redis.enabled }}
- name: REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "maestro.redisSecret" . }}
      key: {{ include "maestro.redisSecretKey" . }}
- name: MAESTRO_REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "maestro.fullname" . }}-redis:6379
{{- else }}
{{- $external := .Values.externalRedis }}
{{- $options := list }}
{{- if $external.tls.caSecret }}
{{- $options = append $options (printf "ca=/etc/maestro/redis-ca/%s" $external.tls.caKey) }}
{{- end }}
{{- if $external.tls.clientSecret }}
{{- $options = concat $options (list "cert=/etc/maestro/redis-client/tls.crt" "key=/etc/maestro/redis-client/tls.key") }}
{{- end }}
{{- $tail := gt (len $options) 0 | ternary (printf "?%s" (join "&" $options)) "" }}
{{- if $external.existingSecret }}
- name: REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ $external.existingSecret }}
      key: {{ $external.existingSecretKey }}
- name: MAESTRO_REDIS_URL
  value: {{ printf "$(REDIS_URL)%s" $tail | quote }}
{{- else if $external.url }}
- name: MAESTRO_REDIS_URL
  value: {{ printf "%s%s" $external.url $tail | quote }}
{{- else }}
{{- fail "redis.enabled is false and nothing says where Redis is: set externalRedis.existingSecret (a Secret with the URL) or externalRedis.url" }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "maestro.redisSecret" -}}
{{- .Values.redis.auth.existingSecret | default (printf "%s-redis" (include "maestro.fullname" .)) -}}
{{- end -}}

{{- define "maestro.redisSecretKey" -}}
{{- empty .Values.redis.auth.existingSecret | ternary "password" .Values.redis.auth.existingSecretKey -}}
{{- end -}}

{{/* Volumes that every Maestro process has. Takes root. */}}
{{- define "maestro.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with include "maestro.agentTypesConfigMap" .root }}
- name: agent-types
  configMap:
    name: {{ . }}
{{- end }}
{{- with include "maestro.workflowsConfigMap" .root }}
- name: workflows
  configMap:
    name: {{ . }}
{{- end }}
{{- if not .root.Values.redis.enabled }}
{{- with .root.Values.externalRedis.tls.caSecret }}
- name: redis-ca
  secret:
    secretName: {{ . }}
{{- end }}
{{- with .root.Values.externalRedis.tls.clientSecret }}
- name: redis-client
  secret:
    secretName: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "maestro.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if include "maestro.agentTypesConfigMap" .root }}
- name: agent-types
  mountPath: /etc/maestro/agents.d
  readOnly: true
{{- end }}
{{- if include "maestro.workflowsConfigMap" .root }}
- name: workflows
  mountPath: /etc/maestro/workflows
  readOnly: true
{{- end }}
{{- if not .root.Values.redis.enabled }}
{{- if .root.Values.externalRedis.tls.caSecret }}
- name: redis-ca
  mountPath: /etc/maestro/redis-ca
  readOnly: true
{{- end }}
{{- if .root.Values.externalRedis.tls.clientSecret }}
- name: redis-client
  mountPath: /etc/maestro/redis-client
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{/* The probes of a daemon: alive is whose main loop turns, ready is who works. */}}
{{- define "maestro.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Who the pod is and what may happen to it. Takes root, role, settings, and pool for workers. */}}
{{- define "maestro.podHead" -}}
serviceAccountName: {{ .settings.serviceAccountName | default (include "maestro.serviceAccount" .) }}
automountServiceAccountToken: false
# Addresses of services as variables are of no use here, and there may be many.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .settings.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How pods of one kind spread over nodes. */}}
{{- define "maestro.spread" -}}
topologySpreadConstraints:
{{- if .settings.topologySpreadConstraints }}
  {{- toYaml .settings.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "maestro.selector" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod. Takes what `labels` takes, and settings. */}}
{{- define "maestro.podMetadata" -}}
labels:
  {{- include "maestro.labels" . | nindent 2 }}
  {{- if has .role (list "coordinator" "worker" "monitor") }}
  maestro/scraped: "true"
  {{- end }}
  {{- with .settings.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) (.settings.podAnnotations | default dict) .root.Values.commonAnnotations }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
