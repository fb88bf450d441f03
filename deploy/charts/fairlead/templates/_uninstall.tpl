{{- /* In the agent's place: takes Fairlead from the node, and then waits, so that
the pod is ready when its node is clean. Whole directories are mounted, so that
ours in them can be removed too, and no token, which would leave its mount point
in the node's /run. */ -}}
{{- define "fairlead.uninstall" -}}
automountServiceAccountToken: false
initContainers:
  - name: uninstall
    args: [uninstall, --yes]
    {{- include "fairlead.uninstallContainer" . | nindent 4 }}
containers:
  - name: done
    args: [uninstall, --yes, --wait]
    {{- include "fairlead.uninstallContainer" . | nindent 4 }}
volumes:
  - {name: cni-conf, hostPath: {path: {{ .Values.cni.confDir }}, type: DirectoryOrCreate}}
  - {name: cni-bin, hostPath: {path: {{ .Values.cni.binDir }}, type: DirectoryOrCreate}}
  - {name: run, hostPath: {path: /run, type: Directory}}
  - {name: lib, hostPath: {path: /var/lib, type: Directory}}
  - {name: sysctl, hostPath: {path: /proc/sys/net, type: Directory}}
{{- end }}

{{- define "fairlead.uninstallContainer" -}}
image: {{ include "fairlead.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  - {name: FAIRLEAD_CNI_CONF_DIR, value: {{ .Values.cni.confDir }}}
  - {name: FAIRLEAD_CNI_BIN_DIR, value: {{ .Values.cni.binDir }}}
{{- with .Values.agent.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{ include "fairlead.privileges" . }}
volumeMounts:
  - {name: cni-conf, mountPath: {{ .Values.cni.confDir }}}
  - {name: cni-bin, mountPath: {{ .Values.cni.binDir }}}
  # What the node unmounts goes here too: else this pod would keep it mounted.
  - {name: run, mountPath: /run, mountPropagation: HostToContainer}
  - {name: lib, mountPath: /var/lib, mountPropagation: HostToContainer}
  - {name: sysctl, mountPath: /host/proc/sys/net}
{{- end }}
