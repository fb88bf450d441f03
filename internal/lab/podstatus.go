package lab

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/world"
)

// settled reports whether the pod is what it shall be, as far as it can be; if
// not, why.
func (p *pod) settled() (bool, string) {
	w, s := p.now()
	switch {
	case w.spec == nil:
		if s.gone {
			return true, ""
		}
		return false, orElse(s.waiting, "its processes are ending")
	case s.epoch != w.epoch:
		return false, orElse(s.waiting, "it is being replaced")
	case s.err != nil:
		return true, ""
	case !s.up:
		return false, orElse(s.waiting, "the sandbox is being made")
	}
	for _, c := range s.services {
		if c != nil && !c.now().begun {
			return false, "its containers are starting"
		}
	}
	return true, ""
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// problem says why the pod does not run, if anything is wrong with it.
func (p *pod) problem() (world.Problem, bool) {
	_, s := p.now()
	if s.err != nil {
		return world.Problem{Object: p.String(), Reason: s.err.Error(), Hint: "see " + p.lab.Command("logs node/"+s.spec.Spec.NodeName)}, true
	}
	for i, c := range s.services {
		if c == nil {
			continue
		}
		if err := c.now().err; err != nil {
			return world.Problem{Object: p.String(), Field: fmt.Sprintf("spec.containers[%d].command", i), Reason: err.Error(),
				Hint: "name a program of this machine; there are no images in a lab"}, true
		}
	}
	return world.Problem{}, false
}

// status is the pod's as an API server shows it.
func (p *pod) status(hostIPs []netip.Addr) corev1.PodStatus {
	w, s := p.now()
	out := corev1.PodStatus{Phase: corev1.PodPending}
	spec := s.spec
	if spec == nil {
		spec = w.spec
	}
	if spec == nil {
		return out
	}
	out.Message = s.waiting
	if s.err != nil {
		out.Message = s.err.Error()
	}
	addresses := s.addresses
	if spec.Spec.HostNetwork && s.up {
		addresses = hostIPs
	}
	for _, a := range hostIPs {
		out.HostIP = orElse(out.HostIP, a.String())
		out.HostIPs = append(out.HostIPs, corev1.HostIP{IP: a.String()})
	}
	for _, a := range addresses {
		out.PodIP = orElse(out.PodIP, a.String())
		out.PodIPs = append(out.PodIPs, corev1.PodIP{IP: a.String()})
	}
	if s.up {
		out.StartTime = &metav1.Time{Time: s.started}
	}
	for i, c := range spec.Spec.Containers {
		out.ContainerStatuses = append(out.ContainerStatuses, containerStatus(c, s, i))
	}
	out.Phase = phase(out.ContainerStatuses, s)
	out.Conditions = conditions(out, s)
	return out
}

func containerStatus(c corev1.Container, s podState, i int) corev1.ContainerStatus {
	out := corev1.ContainerStatus{Name: c.Name, Image: c.Image}
	switch {
	case !s.up:
		out.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: s.waiting}
		return out
	case s.services[i] == nil: // it idles
		out.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: s.started}}
	default:
		now := s.services[i].now()
		out.RestartCount = int32(now.restarts)
		switch {
		case now.pid != 0:
			out.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: s.started}}
		case now.exitCode == nil:
			out.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
		case now.ended:
			out.State.Terminated = terminated(now)
		default:
			out.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
			out.LastTerminationState.Terminated = terminated(now)
		}
	}
	out.Ready = out.State.Running != nil
	out.Started = &out.Ready
	return out
}

func terminated(s serviceState) *corev1.ContainerStateTerminated {
	out := &corev1.ContainerStateTerminated{ExitCode: int32(*s.exitCode), Reason: "Completed"}
	if *s.exitCode != 0 {
		out.Reason = "Error"
	}
	if s.err != nil {
		out.Reason, out.Message = "StartError", s.err.Error()
	}
	return out
}

// phase is that of Kubernetes: a pod whose containers have all ended for good
// succeeded or failed.
func phase(containers []corev1.ContainerStatus, s podState) corev1.PodPhase {
	if !s.up {
		return corev1.PodPending
	}
	out := corev1.PodSucceeded
	for _, c := range containers {
		if c.State.Terminated == nil {
			return corev1.PodRunning
		}
		if c.State.Terminated.ExitCode != 0 {
			out = corev1.PodFailed
		}
	}
	if len(containers) == 0 {
		return corev1.PodRunning
	}
	return out
}

func conditions(status corev1.PodStatus, s podState) []corev1.PodCondition {
	ready := status.Phase == corev1.PodRunning
	for _, c := range status.ContainerStatuses {
		ready = ready && c.Ready
	}
	is := func(t corev1.PodConditionType, yes bool) corev1.PodCondition {
		out := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse}
		if yes {
			out.Status = corev1.ConditionTrue
		}
		return out
	}
	return []corev1.PodCondition{
		is(corev1.PodScheduled, true), is(corev1.PodInitialized, s.up), is(corev1.ContainersReady, ready), is(corev1.PodReady, ready),
	}
}

func isReady(status corev1.PodStatus) bool {
	for _, c := range status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
