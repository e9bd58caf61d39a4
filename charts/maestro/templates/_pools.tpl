{{/*
What holds for a pool: `workerDefaults` with what the pool says laid over them.

Helm's own mergeOverwrite takes `false`, 0 and empty lists for "not said", so that a pool could switch nothing off.
*/}}

{{/* Lays `over` over `base`, which is changed. */}}
{{- define "maestro.overlay" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) -}}
{{- include "maestro.overlay" (dict "base" (get $base $key) "over" $value) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The same as YAML, with neither of them changed. */}}
{{- define "maestro.laidOver" -}}
{{- $base := deepCopy .base -}}
{{- include "maestro.overlay" (dict "base" $base "over" .over) -}}
{{- toYaml $base -}}
{{- end -}}

{{/* The settings of a pool as JSON. Takes root and pool. */}}
{{- define "maestro.pool" -}}
{{- $pool := deepCopy .root.Values.workerDefaults -}}
{{- include "maestro.overlay" (dict "base" $pool "over" (get .root.Values.workerPools .pool | default dict | deepCopy)) -}}
{{- $image := deepCopy .root.Values.image -}}
{{- include "maestro.overlay" (dict "base" $image "over" $pool.image) -}}
{{- /* A pool that names a tag of its own does not mean the common digest. */ -}}
{{- if and $pool.image.tag (not $pool.image.digest) -}}
{{- $_ := set $image "digest" "" -}}
{{- end -}}
{{- $_ := set $pool "image" $image -}}
{{- $scaling := $pool.autoscaling -}}
{{- if and (ne $scaling.type "keda") (ne $scaling.type "none") (lt (int $scaling.min) 1) -}}
{{- fail (printf "workerPools.%s.autoscaling.min is %v, expected at least 1: a HorizontalPodAutoscaler cannot start from nothing; set autoscaling.type to keda, or min to 1" .pool $scaling.min) -}}
{{- end -}}
{{- if gt (int $scaling.min) (int $scaling.max) -}}
{{- fail (printf "workerPools.%s.autoscaling: min %v is more than max %v" .pool $scaling.min $scaling.max) -}}
{{- end -}}
{{- /* Agents have to be gone, and their tasks given back, within the half minute that a drain leaves. */ -}}
{{- $wait := .root.Values.settings.grace_period | default 10 | toString -}}
{{- if or (not (regexMatch "^[0-9]+s?$" $wait)) (gt (int (trimSuffix "s" $wait)) 20) -}}
{{- fail (printf "settings.grace_period is %s, expected at most 20 (seconds): a worker has 30 s between the end of its drain and SIGKILL" $wait) -}}
{{- end -}}
{{- $_ := set $pool "isScaled" (ne $scaling.type "none") -}}
{{- if not $scaling.agents -}}
{{- $_ := set $scaling "agents" $pool.agents -}}
{{- end -}}
{{- if not $scaling.tasksPerWorker -}}
{{- $_ := set $scaling "tasksPerWorker" $pool.concurrency -}}
{{- end -}}
{{- /* The engine maps its root to user 1000, and files of containers have to be the worker's. */ -}}
{{- if eq $pool.isolation.mode "dind" -}}
{{- $context := dict "runAsUser" 1000 "runAsGroup" 1000 "fsGroup" 1000 -}}
{{- include "maestro.overlay" (dict "base" $context "over" $pool.podSecurityContext) -}}
{{- $_ := set $pool "podSecurityContext" $context -}}
{{- end -}}
{{- if eq $pool.isolation.mode "hostSocket" -}}
{{- $groups := $pool.podSecurityContext.supplementalGroups | default list -}}
{{- $_ := set $pool.podSecurityContext "supplementalGroups" (append $groups (int $pool.isolation.hostSocket.gid)) -}}
{{- end -}}
{{- toJson $pool -}}
{{- end -}}

{{/* Where a pool's worker keeps what is on disk: the same path for an engine on the node, which has to see it. */}}
{{- define "maestro.poolFolder" -}}
{{- if eq .settings.isolation.mode "hostSocket" -}}
{{- printf "/var/lib/maestro/%s" (include "maestro.poolName" .) -}}
{{- else -}}
/var/lib/maestro
{{- end -}}
{{- end -}}
