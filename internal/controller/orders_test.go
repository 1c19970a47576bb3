package controller

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestSameOrderSeesEveryField changes every field in turn, those that are added
// to the API later, too.
func TestSameOrderSeesEveryField(t *testing.T) {
	t.Parallel()
	full := func() *v1alpha1.AssignedImage {
		limit := resource.MustParse("5Mi")
		return &v1alpha1.AssignedImage{
			Name: "a", Revision: "r", Action: v1alpha1.ActionPull, Digest: digestA, Format: v1alpha1.FormatRaw, MaxSize: resource.MustParse("1Gi"),
			Source: v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{
				URL: "https://a", SecretRef: &v1alpha1.ObjectReference{Name: "s"}, CABundleRef: &v1alpha1.ObjectReference{Name: "c"},
			}},
			Download: v1alpha1.DownloadPolicy{Connections: 3, MaxBytesPerSecond: &limit, StallTimeoutSeconds: 9},
			Retry:    1,
		}
	}
	if !sameOrder(full(), full()) {
		t.Fatal("equal orders differ")
	}
	count := 0
	for i := range leaves(reflect.ValueOf(full()).Elem()) {
		changed := full()
		leaf := leaves(reflect.ValueOf(changed).Elem())[i]
		leaf.SetZero()
		if sameOrder(changed, full()) || sameOrder(full(), changed) {
			t.Errorf("a change of field %d, a %s, is not seen", i, leaf.Type())
		}
		count++
	}
	if count < 12 {
		t.Errorf("only %d fields were changed", count)
	}
}

// leaves are the fields that hold a value of their own, quantities whole, and the
// pointers on the way to them.
func leaves(v reflect.Value) []reflect.Value {
	if v.Type() == reflect.TypeFor[resource.Quantity]() {
		return []reflect.Value{v}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return append([]reflect.Value{v}, leaves(v.Elem())...)
	case reflect.Struct:
		var found []reflect.Value
		for _, field := range v.Fields() {
			found = append(found, leaves(field)...)
		}
		return found
	default:
		return []reflect.Value{v}
	}
}
