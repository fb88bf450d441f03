package tcp

import (
	"fmt"
	"strings"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

// named is how many pods a sentence names.
const named = 3

var podTCP = doctor.Check{
	ID: "pod-tcp", Ask: "Does TCP in pods behave as AgentConfigs say?",
	Read: func(s doctor.Subject) []doctor.Finding {
		w := s.World
		own, lacks := []string{}, []string{}
		for _, a := range w.Attachments.List {
			seen, ok := w.TCP.Pod(a)
			for _, key := range world.TCPKeys {
				switch want := wanted(w, a).Of(key); {
				case !ok || want == "":
				case seen.Refused != "" || seen.Of(key) == "":
					lacks = append(lacks, fmt.Sprintf("%s/%s %s", a.Namespace, a.Pod, key))
				default:
					if v := judge(w, a, key).own; v != "" {
						own = append(own, fmt.Sprintf("%s/%s %s=%s", a.Namespace, a.Pod, key, v))
					}
				}
			}
		}
		f := doctor.Finding{Status: doctor.OK, Object: "Node " + w.Node.Name, Message: "TCP settings of pods are as configured",
			Evidence: map[string]any{"own": own, "notSet": lacks}}
		switch {
		case len(lacks) > 0:
			f.Status, f.Message = doctor.Warn, fmt.Sprintf("TCP settings that could not be set: %d, %s", len(lacks), some(lacks))
			f.Hint = "see the Problems of these pods; the kernel may not have the setting in each network namespace"
		case len(own) > 0:
			f.Status, f.Message = doctor.Warn, fmt.Sprintf("values that pods have of their own, and keep: %d, %s", len(own), some(own))
			f.Hint = "remove the sysctls from the pods' securityContext, or whatever else sets them, and recreate the pods"
		}
		return []doctor.Finding{f}
	},
}

func some(list []string) string {
	text := strings.Join(list[:min(named, len(list))], ", ")
	if len(list) > named {
		text += " …"
	}
	return text
}
