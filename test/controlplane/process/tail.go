package process

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// tailBytes bounds what Tail reads, and so what an error or a failure report can grow to.
const tailBytes = 16 << 10

// Tail returns at most the last lines of a file, or a sentence that says why it cannot.
func Tail(path string, lines int) string {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	start := max(0, info.Size()-tailBytes)
	data, err := io.ReadAll(io.NewSectionReader(file, start, tailBytes))
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	data = bytes.TrimRight(data, "\n")
	for at, found := len(data), 0; at > 0; {
		at = bytes.LastIndexByte(data[:at], '\n')
		if found++; at >= 0 && found == lines {
			return string(data[at+1:])
		}
	}
	return string(data)
}
