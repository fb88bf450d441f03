{{- /* What a container may do that changes the node's network: docs/install.md says why. */ -}}
{{- define "fairlead.privileges" -}}
securityContext:
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsUser: 0
  capabilities:
    drop: [ALL]
    add: [NET_ADMIN, NET_RAW, SYS_ADMIN]
{{- end }}

{{- /* The agent's part of the DaemonSet's pod. */ -}}
{{- define "fairlead.agent" -}}
automountServiceAccountToken: true
containers:
  - name: agent
    image: {{ include "fairlead.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      - agent
      - --log-level={{ .Values.logLevel }}
      - --cni-conf-dir={{ .Values.cni.confDir }}
      - --cni-bin-dir={{ .Values.cni.binDir }}
      - --metrics-address={{ include "fairlead.metrics" (list . .Values.metrics.port) }}
      {{- with .Values.apiServer }}
      - --api-server={{ . }}
      {{- end }}
      {{- if include "fairlead.config" . }}
      - --config=/etc/fairlead/config/default.yaml
      {{- end }}
    env:
      - name: NODE_NAME
        valueFrom:
          fieldRef:
            fieldPath: spec.nodeName
    # So that the scheduler gives no pod a host port that is Fairlead's.
    ports:
      - name: metrics
        containerPort: {{ .Values.metrics.port }}
        hostPort: {{ .Values.metrics.port }}
      {{- if and (ne (dig "overlay" "mode" "vxlan" .Values.config) "none") (dig "features" "overlay" true .Values.config) }}
      - name: overlay
        containerPort: {{ dig "overlay" "port" 4789 .Values.config }}
        hostPort: {{ dig "overlay" "port" 4789 .Values.config }}
        protocol: UDP
      {{- end }}
    # Started once the agent reconciles; then restarted when it hangs. Ready
    # while the kernel is as desired.
    startupProbe:
      httpGet: {host: 127.0.0.1, port: metrics, path: /healthz}
      periodSeconds: 1
      timeoutSeconds: 5
      failureThreshold: 120
    livenessProbe:
      httpGet: {host: 127.0.0.1, port: metrics, path: /healthz}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet: {host: 127.0.0.1, port: metrics, path: /readyz}
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 3
    {{- with .Values.agent.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- include "fairlead.privileges" . | nindent 4 }}
    volumeMounts:
      - {name: cni-conf, mountPath: {{ .Values.cni.confDir }}}
      - {name: cni-bin, mountPath: {{ .Values.cni.binDir }}}
      - {name: socket, mountPath: /run/fairlead}
      - {name: state, mountPath: /var/lib/fairlead}
      - {name: netns, mountPath: /run/netns, mountPropagation: HostToContainer}
      - {name: sysctl, mountPath: /host/proc/sys/net}
      {{- if include "fairlead.config" . }}
      - {name: config, mountPath: /etc/fairlead/config}
      {{- end }}
volumes:
  # Paths are the same inside and outside: the runtime, the plugin and the agent
  # tell each other where things are.
  - {name: cni-conf, hostPath: {path: {{ .Values.cni.confDir }}, type: DirectoryOrCreate}}
  - {name: cni-bin, hostPath: {path: {{ .Values.cni.binDir }}, type: DirectoryOrCreate}}
  - {name: socket, hostPath: {path: /run/fairlead, type: DirectoryOrCreate}}
  - {name: state, hostPath: {path: /var/lib/fairlead, type: DirectoryOrCreate}}
  - {name: netns, hostPath: {path: /run/netns, type: DirectoryOrCreate}}
  # A container's own /proc/sys is read-only, and nothing may be mounted there.
  - {name: sysctl, hostPath: {path: /proc/sys/net, type: Directory}}
  {{- if include "fairlead.config" . }}
  - {name: config, configMap: {name: fairlead-agent}}
  {{- end }}
{{- end }}
