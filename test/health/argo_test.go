package health

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

// scriptKey is where Argo CD looks for the health check of a kind.
const scriptKey = "resource.customizations.health.prefetch.cloudimage.dev_CloudImage"

// TestWhatArgoMakesOfEachObject runs the script in the interpreter that Argo CD has, with the one global that it gives: obj.
func TestWhatArgoMakesOfEachObject(t *testing.T) {
	t.Parallel()
	script := argoScript(t)
	for _, want := range expectations(t) {
		t.Run(want.Object, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("objects", want.Object+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			status, message := runScript(t, script, text)
			if status != want.Argo {
				t.Errorf("Argo CD: %s (%s), want %s, because %s", status, message, want.Argo, want.Because)
			}
			if message == "" && status != "Healthy" {
				t.Errorf("%s comes without a message", status)
			}
		})
	}
}

func argoScript(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "argocd", "argocd-cm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var configMap struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal(text, &configMap); err != nil {
		t.Fatal(err)
	}
	if configMap.Data[scriptKey] == "" {
		t.Fatalf("argocd-cm.yaml has no %s", scriptKey)
	}
	return configMap.Data[scriptKey]
}

// runScript returns the status and the message that a health script gives an object.
func runScript(t *testing.T, script string, object []byte) (status, message string) {
	t.Helper()
	state := lua.NewState()
	defer state.Close()
	text, err := yaml.YAMLToJSON(object)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	state.SetGlobal("obj", toLua(state, value))
	if err := state.DoString(script); err != nil {
		t.Fatal(err)
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script returns %s", state.Get(-1).Type())
	}
	return answer.RawGetString("status").String(), answer.RawGetString("message").String()
}

// toLua turns what JSON holds into a value of the interpreter.
func toLua(state *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case bool:
		return lua.LBool(v)
	case float64:
		return lua.LNumber(v)
	case string:
		return lua.LString(v)
	case []any:
		list := state.NewTable()
		for _, item := range v {
			list.Append(toLua(state, item))
		}
		return list
	case map[string]any:
		object := state.NewTable()
		for key, item := range v {
			object.RawSetString(key, toLua(state, item))
		}
		return object
	default:
		return lua.LNil
	}
}
