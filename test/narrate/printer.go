// Package narrate prints what a test does so that a person can read it as a story: numbered steps, the commands as one would type
// them, what they print, and what was checked after how long.
package narrate

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

// Printer writes to a file, in colour when that is a terminal and NO_COLOR is not set. Its methods may be called at the same time.
type Printer struct {
	mu     sync.Mutex
	file   *os.File
	colour bool
	step   int
}

// NewPrinter begins a story whose first step has the number after the given one.
func NewPrinter(file *os.File, step int) *Printer {
	return &Printer{file: file, step: step, colour: term.IsTerminal(int(file.Fd())) && os.Getenv("NO_COLOR") == ""}
}

// ANSI codes.
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

func (p *Printer) line(code, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.colour && code != "" {
		text = "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	fmt.Fprintln(p.file, text)
}

// Title begins a numbered step.
func (p *Printer) Title(text string) {
	p.step++
	p.Line("")
	p.line(bold, fmt.Sprintf("%2d.  %s", p.step, text))
}

// Step is the number of the step that was begun last.
func (p *Printer) Step() int { return p.step }

// Line prints a line as it is.
func (p *Printer) Line(text string) { p.line("", text) }

// Command prints a command line before it runs.
func (p *Printer) Command(text string) {
	p.line(cyan, indent+"$ "+strings.ReplaceAll(text, "\n", "\n"+indent))
}

// Note prints what a reader may skip.
func (p *Printer) Note(text string) { p.line(faint, indent+text) }

// Done ends a story that held.
func (p *Printer) Done(text string) { p.line(green, "\n  ✓  "+text) }

// Held says that something that was expected is so, and after how long.
func (p *Printer) Held(took time.Duration, format string, args ...any) {
	p.line(green, "  ✓  "+fmt.Sprintf(format, args...)+" ("+Seconds(took)+")")
}

// Failure prints an error.
func (p *Printer) Failure(err error) {
	p.line(red, "\n  ✗  "+strings.ReplaceAll(err.Error(), "\n", "\n"+indent))
}

// Seconds is how the story tells a duration.
func Seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// Output is what a command prints, indented; it must be flushed when the command has ended.
type Output struct {
	printer *Printer
	mu      sync.Mutex
	rest    []byte
}

// Output returns a writer for one command.
func (p *Printer) Output() *Output { return &Output{printer: p} }

// Write prints whole lines; what does not end with a newline waits for the rest.
func (w *Output) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, data...)
	for {
		at := bytes.IndexByte(w.rest, '\n')
		if at < 0 {
			return len(data), nil
		}
		w.printer.Line(strings.TrimRight(indent+string(w.rest[:at]), " "))
		w.rest = w.rest[at+1:]
	}
}

// Flush prints a last line that has no newline.
func (w *Output) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.printer.Line(indent + string(w.rest))
	}
	w.rest = nil
}
