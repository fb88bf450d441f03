package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// config is the plugin's part of the network configuration.
type config struct {
	types.NetConf
	Socket   string `json:"socket"`   // of the agent
	StateDir string `json:"stateDir"` // of the agent: tombstones go there
}

// Where the agent of a node is unless the configuration says otherwise.
const (
	DefaultSocket   = "/run/fairlead/agent.sock"
	DefaultStateDir = "/var/lib/fairlead"
)

// patience is how long the agent may take for one pod.
const patience = 30 * time.Second

// PluginMain answers the runtime and exits.
func PluginMain() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check},
		version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0"), "fairlead: the pod network of this node")
}

func add(args *skel.CmdArgs) error {
	conf, request, err := parse(args)
	if err != nil {
		return err
	}
	var answer Answer
	if err := conf.ask("add", request, &answer); err != nil {
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

func del(args *skel.CmdArgs) error {
	conf, request, err := parse(args)
	if err != nil {
		return err
	}
	err = conf.ask("del", request, nil)
	var answer *types.Error
	if errors.As(err, &answer) && answer.Code == types.ErrTryAgainLater {
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
	return conf.ask("check", request, nil)
}

func parse(args *skel.CmdArgs) (config, Request, error) {
	conf := config{Socket: DefaultSocket, StateDir: DefaultStateDir}
	r := Request{ContainerID: args.ContainerID, Interface: args.IfName, Netns: args.Netns}
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return conf, r, types.NewError(types.ErrDecodingFailure, "network configuration is not JSON of the expected shape", err.Error())
	}
	for pair := range strings.SplitSeq(args.Args, ";") {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "K8S_POD_NAMESPACE":
			r.Namespace = value
		case "K8S_POD_NAME":
			r.Pod = value
		}
	}
	if err := r.Validate(); err != nil {
		return conf, r, types.NewError(types.ErrInvalidEnvironmentVariables, "the runtime's request makes no sense", err.Error())
	}
	return conf, r, nil
}

// ask sends the request to the agent and fills answer in. An agent that cannot
// be reached, or is not ready, is the CNI error "try again later".
func (c config) ask(verb string, r Request, answer any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/cni/"+verb, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := agentClient(c.Socket).Do(request)
	if err != nil {
		return types.NewError(types.ErrTryAgainLater, "the fairlead agent is away", fmt.Sprintf("%v; is it running, and is %s its socket?", err, c.Socket))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
		code := uint(types.ErrInternal)
		if response.StatusCode == http.StatusServiceUnavailable {
			code = types.ErrTryAgainLater
		}
		return types.NewError(code, strings.TrimSpace(string(message)), "")
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(answer)
}

func agentClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
}
