// Package suite compiles the specs of Kubernetes' own end-to-end tests that
// concern the network: go test -c ./suite is upstream's e2e.test with only those.
package suite
