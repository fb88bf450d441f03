package feature

import "fairlead.dev/fairlead/internal/datapath/sysctl"

// LiberalTCP has conntrack track segments outside a connection's window, all but
// resets (Linux Documentation/networking/nf_conntrack-sysctl.rst). Where it does not,
// they meet no translation: the node takes them for its own, and resets the
// connection.
var LiberalTCP = sysctl.Setting{Key: "net/netfilter/nf_conntrack_tcp_be_liberal", Value: "1"}
