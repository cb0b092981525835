{{- define "kuager.labels" -}}
app.kubernetes.io/name: kuager
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "kuager.selector" -}}
app.kubernetes.io/name: kuager
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* A pod of Kuager, of a part ("nodes" or "web") with what it records at the most. */}}
{{- define "kuager.pod" -}}
{{- $part := .part -}}
{{- $settings := index .root.Values $part -}}
metadata:
  labels:
    {{- include "kuager.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ $part }}
  annotations:
    checksum/config: {{ .root.Values.config | sha256sum }}
spec:
  automountServiceAccountToken: false
  # else the supervisor is process 1, and what is left of the children of a recorder that was killed
  # stays until no process can be started any more
  shareProcessNamespace: true
  # it hands its cameras over, then seals what it has
  terminationGracePeriodSeconds: 120
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if and (eq $part "nodes") $settings.spread }}
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "kuager.selector" .root | nindent 14 }}
              app.kubernetes.io/component: nodes
  {{- end }}
  {{- with $settings.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $settings.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: kuager
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      env:
        - name: NODE_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - name: NODE_ADDRESS
          value: "$(POD_IP):8090"
        - name: NODE_CAMERAS
          value: {{ if eq $part "nodes" }}{{ $settings.cameras | quote }}{{ else }}"0"{{ end }}
      envFrom:
        - secretRef: {name: {{ .root.Values.secretName }}}
      ports:
        - {name: web, containerPort: 8080}
        - {name: operators, containerPort: 8081}
        - {name: nodes, containerPort: 8090}
      # live goes on without the catalogue, so a pod is not taken out because PostgreSQL is away
      startupProbe:
        httpGet: {path: /healthz, port: web}
        periodSeconds: 2
        failureThreshold: 150
      readinessProbe:
        httpGet: {path: /healthz, port: web}
        periodSeconds: 5
        timeoutSeconds: 3
      # the supervisor starts again what dies; only where it hangs itself the pod is. Where the disk
      # takes nothing it cannot say that it does not: what is there is archived and shown all the same
      livenessProbe:
        exec:
          command: [sh, -c, "test -n \"$(find /spool/kuager/_status/supervisor.json -mmin -2)\" || ! echo > /spool/kuager/_status/probe"]
        initialDelaySeconds: 300
        periodSeconds: 30
        failureThreshold: 4
      resources: {{- toYaml $settings.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/kuager, readOnly: true}
        - {name: stations, mountPath: /etc/kuager-stations, readOnly: true}
        - {name: spool, mountPath: /spool}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: config
      configMap: {name: {{ .root.Release.Name }}}
    - name: stations
      {{- if .root.Values.stationsVolume }}
      {{- toYaml .root.Values.stationsVolume | nindent 6 }}
      {{- else }}
      secret: {secretName: {{ .root.Values.stationsSecretName }}, defaultMode: 288}
      {{- end }}
    - name: tmp
      emptyDir: {}
    {{- if ne $part "nodes" }}
    # what only shows records nothing
    - name: spool
      emptyDir: {sizeLimit: 1Gi}
    {{- end }}
{{- end }}
