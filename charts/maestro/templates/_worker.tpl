{{/*
The pod of a worker, the same in a Deployment and in a StatefulSet. Takes root, role, pool, settings.
*/}}

{{- define "maestro.workerPod" -}}
{{- $pool := .settings -}}
{{- $root := .root -}}
{{- $mode := $pool.isolation.mode -}}
{{- $folder := include "maestro.poolFolder" . -}}
metadata:
  {{- include "maestro.podMetadata" . | nindent 2 }}
spec:
  {{- include "maestro.podHead" . | nindent 2 }}
  {{- include "maestro.spread" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ $pool.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "maestro.laidOver" (dict "base" $root.Values.podSecurityContext "over" $pool.podSecurityContext) | nindent 4 }}
  {{- if or (ne $mode "none") $pool.extraInitContainers }}
  initContainers:
    {{- if eq $mode "dind" }}
    {{- include "maestro.engine" . | nindent 4 }}
    {{- end }}
    {{- if eq $mode "hostSocket" }}
    {{- include "maestro.hostFolder" . | nindent 4 }}
    {{- end }}
    {{- with $pool.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "maestro.image" (dict "image" $pool.image "version" $root.Chart.AppVersion) }}
      imagePullPolicy: {{ $pool.image.pullPolicy }}
      args:
        {{- include "maestro.workerArgs" . | nindent 8 }}
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- include "maestro.env" . | nindent 8 }}
        - name: MAESTRO_WORKSPACE_ROOT
          value: {{ $folder }}/workspaces
        # Safety copies of `agent reset`; snapshots of the cluster have a volume of their own.
        - name: MAESTRO_SNAPSHOT_DIR
          value: {{ $folder }}/snapshots
        # 30 s before the grace period ends: time to end agents and to give their tasks back.
        - name: MAESTRO_DRAIN_DEADLINE
          value: {{ printf "%ds" (sub (int $pool.terminationGracePeriodSeconds) 30) | quote }}
        {{- if ne $mode "none" }}
        - name: DOCKER_HOST
          value: unix:///run/engine/docker.sock
        {{- end }}
        {{- with $pool.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $pool.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - {name: metrics, containerPort: {{ $root.Values.metrics.port }}}
      {{- include "maestro.probes" . | nindent 6 }}
      # SIGTERM drains as well; this one is in the audit stream before Kubernetes sends it.
      lifecycle:
        preStop:
          exec:
            command: [maestro, worker, drain, --this-host, --deadline, {{ printf "%ds" (sub (int $pool.terminationGracePeriodSeconds) 30) }}]
      resources:
        {{- toYaml $pool.resources | nindent 8 }}
      securityContext:
        {{- include "maestro.laidOver" (dict "base" $root.Values.securityContext "over" $pool.securityContext) | nindent 8 }}
      volumeMounts:
        {{- include "maestro.volumeMounts" . | nindent 8 }}
        - name: data
          mountPath: {{ $folder }}
        {{- if eq $mode "dind" }}
        - name: engine-socket
          mountPath: /run/engine
        {{- else if eq $mode "hostSocket" }}
        - name: engine-socket
          mountPath: /run/engine/docker.sock
        {{- end }}
        {{- with $pool.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $pool.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "maestro.volumes" . | nindent 4 }}
    {{- include "maestro.workerVolumes" . | nindent 4 }}
    {{- with $pool.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "maestro.workerArgs" -}}
- worker
- start
# The name of the pod: one that comes back under it takes its agents over.
- --name
- $(POD_NAME)
- --concurrency
- {{ .settings.concurrency | quote }}
{{- with .settings.agents }}
- --agents
- {{ join "," . | quote }}
{{- end }}
- --label
- {{ printf "pool=%s" .pool | quote }}
{{- range $key, $value := .settings.labels }}
- --label
- {{ printf "%s=%v" $key $value | quote }}
{{- end }}
{{- range .settings.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "maestro.workerVolumes" -}}
{{- $pool := .settings -}}
{{- $mode := $pool.isolation.mode -}}
{{- if eq $mode "hostSocket" }}
- name: data
  hostPath: {path: {{ include "maestro.poolFolder" . }}, type: DirectoryOrCreate}
- name: engine-socket
  hostPath: {path: {{ $pool.isolation.hostSocket.path }}, type: Socket}
{{- else }}
{{- if not $pool.persistence.enabled }}
- name: data
  {{- if $pool.scratchSizeLimit }}
  emptyDir: {sizeLimit: {{ $pool.scratchSizeLimit }}}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}
{{- if eq $mode "dind" }}
- name: engine-socket
  emptyDir: {}
- name: engine-images
  {{- if $pool.isolation.dind.storageSizeLimit }}
  emptyDir: {sizeLimit: {{ $pool.isolation.dind.storageSizeLimit }}}
  {{- else }}
  emptyDir: {}
  {{- end }}
- name: engine-tmp
  emptyDir: {}
{{- end }}
{{- end }}
{{- end -}}

{{/* A rootless engine that starts before the worker and ends after it (a sidecar of Kubernetes 1.29 and newer). */}}
{{- define "maestro.engine" -}}
{{- $dind := .settings.isolation.dind -}}
- name: engine
  image: {{ include "maestro.image" (dict "image" $dind.image "version" "latest") }}
  imagePullPolicy: {{ $dind.image.pullPolicy }}
  restartPolicy: Always
  # On its socket alone: the image would also listen on a port without a password.
  args: [dockerd, "--host=unix:///run/user/1000/docker.sock", --group=1000]
  env:
    - {name: DOCKER_TLS_CERTDIR, value: ""}
    - {name: XDG_RUNTIME_DIR, value: /run/user/1000}
  startupProbe:
    exec:
      command: [docker, --host, "unix:///run/user/1000/docker.sock", version]
    periodSeconds: 2
    failureThreshold: 60
    timeoutSeconds: 5
  resources:
    {{- toYaml $dind.resources | nindent 4 }}
  # Namespaces inside a container need it, though the engine itself runs as user 1000.
  securityContext:
    privileged: true
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
  volumeMounts:
    # The same path as in the worker: the engine mounts workspaces by their paths.
    - {name: data, mountPath: /var/lib/maestro}
    - {name: engine-socket, mountPath: /run/user/1000}
    - {name: engine-images, mountPath: /home/rootless/.local/share/docker}
    - {name: engine-tmp, mountPath: /tmp}
{{- end -}}

{{/* Kubernetes makes a folder of the node for root alone, and the worker is not root. */}}
{{- define "maestro.hostFolder" -}}
{{- $context := include "maestro.laidOver" (dict "base" .root.Values.podSecurityContext "over" .settings.podSecurityContext) | fromYaml -}}
- name: host-folder
  image: {{ .settings.isolation.hostSocket.prepareImage }}
  command: [sh, -c, {{ printf "chown %v:%v %s" (int $context.runAsUser) (int $context.runAsGroup) (include "maestro.poolFolder" .) | quote }}]
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsNonRoot: false
    runAsUser: 0
    capabilities: {drop: [ALL], add: [CHOWN]}
  volumeMounts:
    - {name: data, mountPath: {{ include "maestro.poolFolder" . }}}
{{- end -}}
