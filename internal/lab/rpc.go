package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"fairlead.dev/fairlead/internal/world"
)

// maxBody bounds what is read of a request or an answer.
const maxBody = 64 << 20

// An exchange is a request and where its answer goes.
type exchange struct {
	method, path string
	body         any // nil: none
	answer       any // nil: it does not matter
}

// call sends the request through a unix socket.
func call(ctx context.Context, socket string, x exchange) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	var content io.Reader
	if x.body != nil {
		b, err := json.Marshal(x.body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(b)
	}
	request, err := http.NewRequestWithContext(ctx, x.method, "http://lab"+x.path, content)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if wrong, ok := errors.AsType[*url.Error](err); ok {
		return wrong.Err // the URL is nothing that a user could look up
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return &refusal{response.StatusCode, strings.TrimSpace(string(b))}
	}
	if x.answer == nil {
		return nil
	}
	return json.Unmarshal(b, x.answer)
}

// A refusal is an answer that is not what was asked for.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

// agentAnswer is what an agent says about itself.
type agentAnswer struct {
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason"`
	Observed int64  `json:"observed"`
	Applied  int64  `json:"applied"`
	Problems int    `json:"problems"`
	Metrics  string `json:"metrics"`
}

func askAgent(ctx context.Context, socket string) (agentAnswer, error) {
	var a agentAnswer
	err := call(ctx, socket, exchange{http.MethodGet, "/v1/status", nil, &a})
	return a, err
}

// awaitApplied returns when the agent has applied the revision, or with an
// error when it ends first.
func awaitApplied(ctx context.Context, socket string, revision int64) error {
	var a agentAnswer
	path := fmt.Sprintf("/v1/status?applied=%d", revision)
	if err := call(ctx, socket, exchange{http.MethodGet, path, nil, &a}); err != nil {
		return err
	}
	if a.Applied < revision {
		return fmt.Errorf("applied revision %d of %d", a.Applied, revision)
	}
	return nil
}

func askProblems(ctx context.Context, socket string) ([]world.Problem, error) {
	var list struct {
		Items []world.Problem `json:"items"`
	}
	err := call(ctx, socket, exchange{http.MethodGet, "/v1/problems", nil, &list})
	return list.Items, err
}
