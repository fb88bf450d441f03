package cni

import (
	"errors"
	"net"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// PluginMain answers the runtime and exits.
func PluginMain() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check, GC: collect, Status: status},
		version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"), "fairlead: the pod network of this node")
}

func add(args *skel.CmdArgs) error {
	conf, request, err := parse(args)
	if err != nil {
		return err
	}
	if err := conf.require(&request); err != nil {
		return err
	}
	if request.Before, err = conf.before(); err != nil {
		return err
	}
	var answer Answer
	if err := conf.ask("add", request, &answer); err != nil {
		return err
	}
	if request.Before != nil { // the pod has what it had, and nothing more
		_, err := os.Stdout.Write(conf.Previous)
		return err
	}
	return types.PrintResult(result(request, answer), conf.CNIVersion)
}

func result(r Request, a Answer) *current.Result {
	out := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{
			{Name: a.Link, Mac: a.LinkMAC, Mtu: a.MTU},
			{Name: r.Interface, Mac: a.MAC, Mtu: a.MTU, Sandbox: r.Netns},
		},
	}
	for i, addr := range a.Addresses {
		gateway := net.IP(a.Gateways[i].AsSlice())
		all := net.IPNet{IP: make(net.IP, addr.BitLen()/8), Mask: net.CIDRMask(0, addr.BitLen())}
		out.IPs = append(out.IPs, &current.IPConfig{
			Interface: new(1), Gateway: gateway,
			Address: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())},
		})
		out.Routes = append(out.Routes, &types.Route{Dst: all, GW: gateway})
	}
	return out
}

// del asks for nothing but the attachment's end: whatever else the runtime says
// must not keep it from that.
func del(args *skel.CmdArgs) error {
	conf, request, err := parse(args)
	if err != nil {
		return err
	}
	err = conf.ask("del", request, nil)
	if isTryAgain(err) {
		return bury(conf.StateDir, request)
	}
	return err
}

// check asks whether the attachment is as ADD left it.
func check(args *skel.CmdArgs) error {
	conf, request, err := parse(args)
	if err != nil {
		return err
	}
	if request.Before, err = conf.before(); err != nil {
		return err
	}
	return conf.ask("check", request, nil)
}

// collect gives the agent the attachments that the runtime still has.
func collect(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	valid, err := conf.valid()
	if err != nil {
		return err
	}
	return conf.ask("gc", Request{Network: conf.Name, Valid: valid}, nil)
}

// status asks whether an ADD would be served.
func status(args *skel.CmdArgs) error {
	conf, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	err = conf.ask("status", Request{Network: conf.Name}, nil)
	var answer *types.Error
	if errors.As(err, &answer) && answer.Code == types.ErrTryAgainLater {
		// Pods keep their network while the agent is away.
		return types.NewError(types.ErrPluginNotAvailable, answer.Msg, answer.Details)
	}
	return err
}

func isTryAgain(err error) bool {
	var answer *types.Error
	return errors.As(err, &answer) && answer.Code == types.ErrTryAgainLater
}
