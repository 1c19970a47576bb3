package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// stage is what a target of the Dockerfile makes, in the few words that the file uses; another word fails the test.
type stage struct {
	user       string
	entrypoint []string
	labels     map[string]string
	copies     [][2]string // source and destination
}

// pinned is an image by its digest, beside the tag that people read.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}$`)

// TestImagesOfOthersArePinned: a tag may be another image tomorrow, and what it compiles other bytes.
func TestImagesOfOthersArePinned(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages := []string{"scratch"}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 4 || words[0] != "FROM" {
			continue
		}
		if from := words[len(words)-3]; !slices.Contains(stages, from) && !pinned.MatchString(from) {
			t.Errorf("%s is not like name:tag@sha256:digest", from)
		}
		stages = append(stages, words[len(words)-1])
	}
	if len(stages) < 4 {
		t.Errorf("only the stages %q were found", stages)
	}
}

func readDockerfile(t *testing.T, path string) map[string]stage {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stages := map[string]stage{}
	name, current := "", stage{}
	for line := range strings.Lines(strings.ReplaceAll(string(data), "\\\n", " ")) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), words[0]))
		switch words[0] {
		case "FROM":
			name = words[len(words)-1]
			from := stages[words[len(words)-3]] // nothing for scratch and for the compiler's image
			current = stage{user: from.user, labels: maps.Clone(from.labels), copies: slices.Clone(from.copies)}
		case "COPY":
			words = slices.DeleteFunc(words[1:], func(word string) bool { return strings.HasPrefix(word, "--") })
			current.copies = append(current.copies, [2]string{words[0], words[1]})
		case "USER":
			current.user = rest
		case "ENTRYPOINT":
			if err := json.Unmarshal([]byte(rest), &current.entrypoint); err != nil {
				t.Fatal(err)
			}
		case "LABEL":
			current.labels = labelsOf(rest)
		case "ARG", "RUN", "WORKDIR":
			if name != "build" {
				t.Errorf("%s in the stage %s leaves no trace in the image that `make release` builds", words[0], name)
			}
		default:
			t.Errorf("this test does not know what %s does", words[0])
		}
		stages[name] = current
	}
	return stages
}

// labelsOf reads key="value" key="value"; no value holds a quote.
func labelsOf(text string) map[string]string {
	labels := map[string]string{}
	for text != "" {
		key, rest, _ := strings.Cut(text, `="`)
		value, after, _ := strings.Cut(rest, `"`)
		labels[strings.TrimSpace(key)] = value
		text = strings.TrimSpace(after)
	}
	return labels
}

// files are those that the COPY instructions of a stage leave in its image.
func (s stage) files(t *testing.T, repository string) []string {
	t.Helper()
	var files []string
	for _, pair := range s.copies {
		if strings.HasPrefix(pair[0], "/out/") { // from the stage that compiles
			files = append(files, pair[1])
			continue
		}
		tree, err := readTree(filepath.Join(repository, pair[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range tree {
			files = append(files, filepath.Join(pair[1], file.path))
		}
	}
	return files
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}
