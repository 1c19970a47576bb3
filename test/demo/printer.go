package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const indent = "     "

// printer writes the story: numbered steps, commands as a person would type them, what they print, and what was checked.
type printer struct {
	mu     sync.Mutex
	file   *os.File
	colour bool
	step   int
}

func newPrinter(file *os.File) *printer {
	return &printer{file: file, colour: term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""}
}

// ANSI codes.
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (p *printer) line(code, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.colour && code != "" {
		text = "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	fmt.Fprintln(p.file, text)
}

// title begins a numbered step.
func (p *printer) title(text string) {
	p.step++
	p.line("", "")
	p.line(bold, fmt.Sprintf("%2d.  %s", p.step, text))
}

func (p *printer) command(text string) { p.line(cyan, indent+"$ "+text) }
func (p *printer) note(text string)    { p.line(faint, indent+text) }
func (p *printer) done(text string)    { p.line(green, "\n  ✓  "+text) }

// held says that something that was expected is so, and after how long.
func (p *printer) held(took time.Duration, format string, args ...any) {
	p.line(green, "  ✓  "+fmt.Sprintf(format, args...)+" ("+seconds(took)+")")
}

func (p *printer) failure(err error) {
	p.line(red, "\n  ✗  "+strings.ReplaceAll(err.Error(), "\n", "\n"+indent))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// Write prints the output of a command, indented. What does not end with a newline waits for the rest.
func (w *indented) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, data...)
	for {
		at := bytes.IndexByte(w.rest, '\n')
		if at < 0 {
			return len(data), nil
		}
		w.printer.line("", strings.TrimRight(indent+string(w.rest[:at]), " "))
		w.rest = w.rest[at+1:]
	}
}

// flush prints a last line that has no newline.
func (w *indented) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.printer.line("", indent+string(w.rest))
	}
	w.rest = nil
}

type indented struct {
	printer *printer
	mu      sync.Mutex
	rest    []byte
}
