package kube

import (
	"bufio"
	"bytes"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"fairlead.dev/fairlead/internal/kube"
)

// encoded is a list as a server sends it.
func encoded(t testing.TB, names ...string) []byte {
	t.Helper()
	list := &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "7"}}
	for _, name := range names {
		list.Items = append(list.Items, *apod(name, "10.244.1.2"))
	}
	var out bytes.Buffer
	if err := protobuf.NewSerializer(kube.Scheme(), kube.Scheme()).Encode(list, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// names reads a list as a source does.
func names(body []byte) (names []string, version string, err error) {
	in := bufio.NewReader(bytes.NewReader(body[min(len(magic), len(body)):]))
	var list metav1.ListMeta
	err = eachItem(in, &list, func(item []byte) error {
		p := &corev1.Pod{}
		defer func() { names = append(names, p.Name) }()
		return p.Unmarshal(item)
	})
	return names, list.ResourceVersion, err
}

// A list that ends too soon is an error wherever it ends: what is missing would be
// taken for gone.
func TestAListThatIsCutOffIsNone(t *testing.T) {
	t.Parallel()
	whole := encoded(t, "a", "b", "c")
	got, version, err := names(whole)
	if want := []string{"a", "b", "c"}; !slices.Equal(got, want) || version != "7" || err != nil {
		t.Fatalf("%q of version %q, %v, want %q of 7", got, version, err, want)
	}
	tail := len(whole) - bytes.LastIndex(whole, []byte("c")) // what stands behind the list says nothing
	for n := range len(whole) - tail {
		if n <= len(magic) {
			continue
		}
		if got, _, err := names(whole[:n]); err == nil && len(got) > 0 {
			t.Errorf("of %d bytes %d are a list of %q", len(whole), n, got)
		}
	}
}

// Whatever comes, what is read of a list is what Kubernetes itself reads of it.
func FuzzListIsWhatKubernetesReads(f *testing.F) {
	f.Add(encoded(f))
	f.Add(encoded(f, "a", "b"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if !bytes.HasPrefix(body, magic) {
			return
		}
		got, version, err := names(body)
		var unknown runtime.Unknown
		var list corev1.PodList
		if unknown.Unmarshal(body[len(magic):]) != nil || list.Unmarshal(unknown.Raw) != nil || err != nil {
			return // one of the two is stricter
		}
		if n := len(list.Items); n != len(got) || version != list.ResourceVersion {
			t.Fatalf("%d items of version %q, want %d of %q", len(got), version, n, list.ResourceVersion)
		}
	})
}

// BenchmarkList is how long 10,000 pods take.
func BenchmarkList(b *testing.B) {
	body := encoded(b, slices.Repeat([]string{"some-pod-of-a-deployment"}, 10_000)...)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, _, err := names(body); err != nil {
			b.Fatal(err)
		}
	}
}
