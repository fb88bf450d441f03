package status

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"fairlead.dev/fairlead/internal/kube"
)

// A server answers requests with what it holds, by path, and notes them. It knows
// little of what a patch means: fields of metadata and status take the place of
// those that are there.
type server struct {
	mu      sync.Mutex
	objects map[string]any
	fail    map[string]int // path prefix: status code; 0: no answer
	sent    []request
}

type request struct {
	at   time.Duration // since the start
	line string        // "PATCH /api/v1/nodes/n1/status"
	body map[string]any
}

// RoundTrip is part of http.RoundTripper.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	q := request{line: r.Method + " " + r.URL.Path, body: decode(body), at: time.Since(epoch)}
	s.sent = append(s.sent, q)
	for prefix, code := range s.fail {
		if strings.HasPrefix(r.URL.Path, prefix) {
			if code == 0 {
				return nil, errors.New("connection refused")
			}
			return answer(r, code, metav1.Status{Status: "Failure", Code: int32(code), Reason: reasonsOf[code], Message: "as the test wants"}), nil
		}
	}
	return s.serve(r, q), nil
}

var reasonsOf = map[int]metav1.StatusReason{400: metav1.StatusReasonBadRequest, 413: metav1.StatusReasonRequestEntityTooLarge, 403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound,
	409: metav1.StatusReasonConflict, 422: metav1.StatusReasonInvalid, 503: metav1.StatusReasonServiceUnavailable}

func (s *server) serve(r *http.Request, q request) *http.Response {
	path := strings.TrimSuffix(r.URL.Path, "/status")
	there, ok := s.objects[path]
	switch {
	case r.Method == http.MethodPost:
		name := q.body["metadata"].(map[string]any)["name"].(string)
		if _, ok := s.objects[path+"/"+name]; ok {
			return answer(r, 409, metav1.Status{Status: "Failure", Code: 409, Reason: metav1.StatusReasonAlreadyExists})
		}
		s.objects[path+"/"+name] = q.body
		return answer(r, 201, q.body)
	case r.Method == http.MethodPatch && (ok || strings.Contains(path, "fairleadnodes") && path == r.URL.Path):
		s.objects[path] = merge(there, q.body)
		return answer(r, 200, s.objects[path])
	case ok:
		return answer(r, 200, there)
	}
	return answer(r, 404, metav1.Status{Status: "Failure", Code: 404, Reason: metav1.StatusReasonNotFound, Message: path + " not found"})
}

func merge(there any, body map[string]any) map[string]any {
	out := map[string]any{}
	old, _ := json.Marshal(there)
	if err := json.Unmarshal(old, &out); err != nil {
		panic(err)
	}
	if out == nil {
		out = map[string]any{}
	}
	for key, value := range body {
		part, ok := out[key].(map[string]any)
		change, both := value.(map[string]any)
		if !ok || !both {
			out[key] = value
			continue
		}
		maps.Copy(part, change)
	}
	return out
}

func answer(r *http.Request, code int, v any) *http.Response {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: code, Request: r, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body))}
}

// decode understands JSON, and events in protobuf.
func decode(body []byte) map[string]any {
	var out map[string]any
	if len(body) == 0 || json.Unmarshal(body, &out) == nil {
		return out
	}
	o, _, err := serializer.NewCodecFactory(kube.Scheme()).UniversalDeserializer().Decode(body, nil, nil)
	if err != nil {
		panic(err)
	}
	body, _ = json.Marshal(o)
	if err := json.Unmarshal(body, &out); err != nil {
		panic(err)
	}
	return out
}

// lines are the requests that begin with what, and when.
func (s *server) lines(what string) []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []request
	for _, q := range s.sent {
		if strings.HasPrefix(q.line, what) {
			out = append(out, q)
		}
	}
	return out
}

func (s *server) set(path string, v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[path] = v
}

func (s *server) failing(path string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if code < 0 {
		delete(s.fail, path)
	} else {
		s.fail[path] = code
	}
}
