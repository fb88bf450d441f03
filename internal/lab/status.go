package lab

// Status is a lab as others see it: lab status -o json. Lists are never null.
type Status struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Name       string           `json:"name"`
	Ready      bool             `json:"ready"` // every agent is
	Nodes      []NodeStatus     `json:"nodes"`
	Hosts      []HostStatus     `json:"hosts"`
	Firewalls  []FirewallStatus `json:"firewalls"`
	Pods       []PodStatus      `json:"pods"`
}

// NodeStatus is a node and its agent.
type NodeStatus struct {
	Name      string      `json:"name"`
	Cluster   string      `json:"cluster"`
	Addresses []string    `json:"addresses"`
	PodCIDRs  []string    `json:"podCIDRs"`
	Netns     string      `json:"netns"`
	Agent     AgentStatus `json:"agent"`
}

// AgentStatus is what an agent says, or why it does not.
type AgentStatus struct {
	PID      int    `json:"pid"`
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason"`
	Observed int64  `json:"observed"`
	Applied  int64  `json:"applied"`
	Problems int    `json:"problems"`
	Metrics  string `json:"metrics"`
}

// HostStatus is a host outside the cluster.
type HostStatus struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Netns     string   `json:"netns"`
}

// FirewallStatus is a firewall and the packets it judged.
type FirewallStatus struct {
	Name     string `json:"name"`
	Netns    string `json:"netns"`
	Accepted uint64 `json:"accepted"`
	Dropped  uint64 `json:"dropped"`
}

// PodStatus is a pod and its processes.
type PodStatus struct {
	Namespace  string            `json:"namespace"`
	Name       string            `json:"name"`
	Node       string            `json:"node"`
	Phase      string            `json:"phase"`
	Ready      bool              `json:"ready"`
	PodIPs     []string          `json:"podIPs"`
	Netns      string            `json:"netns"`
	Containers []ContainerStatus `json:"containers"`
}

// ContainerStatus is a container's process.
type ContainerStatus struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"` // 0: no process
	Running  bool   `json:"running"`
	ExitCode *int   `json:"exitCode"` // of the last run, null before its end
}
