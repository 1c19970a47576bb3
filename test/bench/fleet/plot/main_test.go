package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDraw(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.svg")
	input := `[{"Name":"cold","Pairs":10,"Points":[{"seconds":0,"Ready":0,"Pulling":2},{"seconds":60,"Ready":10,"Pulling":0}]}]`
	if err := run([]string{path}, strings.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(drawn, []byte("<svg")) || !bytes.Contains(drawn, []byte("cold: Ready")) {
		t.Errorf("drew %s", drawn)
	}
	for _, bad := range []string{"no JSON", `[{"Name":"empty"}]`} {
		if err := run([]string{path}, strings.NewReader(bad)); err == nil {
			t.Errorf("drew %s", bad)
		}
	}
}
