package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// nodeLimit is the limit of the node that manyPulls share, in bytes a second: ten seconds for all of them.
func nodeLimit(size int64) int64 { return size / 10 }

// pullMany pulls ten objects into one store at once. A command holds its store alone, so one process does all ten, as an agent would.
func (r *runner) pullMany(ctx context.Context, b *bench, url string) error {
	command := []string{filepath.Join(b.config.bin, "nodepulls"), "-store", filepath.Join(r.job.dir, "store"),
		"-connections", fmt.Sprint(connections), "-bytes-per-second", fmt.Sprint(nodeLimit(r.job.size))}
	for i, part := range b.parts {
		command = append(command, fmt.Sprintf("%s/part-%d#sha256:%s", url, i, part.Digest))
	}
	_, err := r.step(ctx, command...)
	return err
}
