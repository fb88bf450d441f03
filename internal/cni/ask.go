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
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/quote"
)

// patience is how long the agent may take for one pod, and absence how long an
// agent may be away that is being replaced by another. The kubelet gives a pod
// minutes, and one that failed waits longer than an update takes.
const (
	patience = 30 * time.Second
	absence  = 10 * time.Second
	askAgain = 50 * time.Millisecond
)

// ask sends the request to the agent and fills answer in. The agent's refusal is
// a CNI error; one that cannot be reached is the error "try again later".
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
	client := agentClient(c.Socket)
	response, err := client.Do(request)
	for began := time.Now(); err != nil && verb == "add" && notThere(err) && time.Since(began) < absence; {
		time.Sleep(askAgain)
		request.Body = io.NopCloser(bytes.NewReader(body))
		response, err = client.Do(request)
	}
	if err != nil {
		return types.NewError(types.ErrTryAgainLater, "the fairlead agent is unreachable", fmt.Sprintf("%v; is it running, and is %s its socket?", err, c.Socket))
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return types.NewError(types.ErrTryAgainLater, "the fairlead agent went away", err.Error())
	}
	if response.StatusCode != http.StatusOK {
		refusal := &types.Error{}
		if json.Unmarshal(content, refusal) != nil || refusal.Code == 0 {
			refusal = types.NewError(types.ErrInternal, quote.Text(string(bytes.TrimSpace(content)), quote.Sentence), "")
		}
		return refusal
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(content, answer)
}

// notThere reports whether nobody listened: nothing of the request was heard.
func notThere(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED)
}

func agentClient(socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
}
