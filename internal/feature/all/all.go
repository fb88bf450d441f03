// Package all is the one ordered list of features, in the order in which a
// packet that leaves a pod meets them.
package all

import (
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/egress"
	"fairlead.dev/fairlead/internal/feature/forward"
	"fairlead.dev/fairlead/internal/feature/guard"
	"fairlead.dev/fairlead/internal/feature/hostport"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/feature/overlay"
	"fairlead.dev/fairlead/internal/feature/pod"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/feature/tcp"
	"fairlead.dev/fairlead/internal/feature/uplink"
)

// Features is every feature there is.
var Features = []feature.Feature{
	guard.Feature,
	pod.Feature,
	tcp.Feature,
	hostport.Feature,
	nodeportlocal.Feature,
	uplink.Feature,
	forward.Feature,
	overlay.Feature,
	egress.Feature,
	snat.Feature,
}
