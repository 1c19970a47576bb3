package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
)

// lineInterval is how often a progress line is written where no terminal is.
const lineInterval = 10 * time.Second

// display shows the progress of one pull.
type display interface {
	show(pull.Progress)
	// end leaves the display; done says that the pull succeeded.
	end(done bool)
}

// newDisplay chooses a bar on a terminal, lines in a log, and silence where only
// the JSON is read.
func newDisplay(w io.Writer, quiet bool) display {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return newBarDisplay(w)
	}
	if quiet {
		return silentDisplay{}
	}
	return &lineDisplay{w: w, last: time.Now()}
}

type silentDisplay struct{}

func (silentDisplay) show(pull.Progress) {}
func (silentDisplay) end(bool)           {}

// lineDisplay writes a line now and then.
type lineDisplay struct {
	w    io.Writer
	last time.Time
	rate rateMeter
}

func (d *lineDisplay) show(p pull.Progress) {
	now := time.Now()
	d.rate.add(now, p.TransferredBytes)
	if now.Sub(d.last) < lineInterval {
		return
	}
	d.last = now
	fmt.Fprintln(d.w, progressLine(p, d.rate.bytesPerSecond()))
}

func (d *lineDisplay) end(bool) {}

// progressLine describes progress in one line.
func progressLine(p pull.Progress, rate float64) string {
	done := pull.FormatBytes(p.BytesCompleted)
	if p.TotalBytes > 0 {
		done = fmt.Sprintf("%3d %%  %s of %s", 100*p.BytesCompleted/p.TotalBytes, done, pull.FormatBytes(p.TotalBytes))
	}
	return fmt.Sprintf("%s  %s/s  %s  %s", done, pull.FormatBytes(int64(rate)), connectionsText(p.Connections), timeLeft(p, rate))
}

func connectionsText(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// timeLeft estimates the rest from the rate of the last seconds.
func timeLeft(p pull.Progress, rate float64) string {
	switch {
	case p.TotalBytes == 0:
		return "size unknown"
	case p.BytesCompleted == p.TotalBytes:
		return "verifying"
	case rate < 1:
		return "time left unknown"
	}
	left := time.Duration(float64(p.TotalBytes-p.BytesCompleted) / rate * float64(time.Second))
	return left.Round(time.Second).String() + " left"
}

// barDisplay draws a bar on a terminal.
type barDisplay struct {
	progress *mpb.Progress
	bar      *mpb.Bar
	state    chan barState // the latest, for the bar's own goroutine
	rate     rateMeter
}

type barState struct {
	progress pull.Progress
	rate     float64
}

func newBarDisplay(w io.Writer) *barDisplay {
	d := &barDisplay{progress: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithRefreshRate(200*time.Millisecond)), state: make(chan barState, 1)}
	var shown barState
	latest := func() barState {
		select {
		case shown = <-d.state:
		default:
		}
		return shown
	}
	d.bar = d.progress.New(0, mpb.BarStyle(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			s := latest().progress
			if s.TotalBytes == 0 {
				return pull.FormatBytes(s.BytesCompleted) + " "
			}
			return fmt.Sprintf("%3d %% of %s ", 100*s.BytesCompleted/s.TotalBytes, pull.FormatBytes(s.TotalBytes))
		})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			return fmt.Sprintf(" %s/s  %s  %s", pull.FormatBytes(int64(shown.rate)), connectionsText(shown.progress.Connections), timeLeft(shown.progress, shown.rate))
		})),
	)
	return d
}

func (d *barDisplay) show(p pull.Progress) {
	d.rate.add(time.Now(), p.TransferredBytes)
	select {
	case <-d.state:
	default:
	}
	d.state <- barState{p, d.rate.bytesPerSecond()}
	d.bar.SetTotal(p.TotalBytes, false)
	d.bar.SetCurrent(p.BytesCompleted)
}

func (d *barDisplay) end(done bool) {
	if done {
		d.bar.EnableTriggerComplete()
		d.bar.SetTotal(-1, true)
	} else {
		d.bar.Abort(false)
	}
	d.progress.Wait()
}

// rateMeter measures a rate over the last seconds.
type rateMeter struct {
	samples []rateSample
}

type rateSample struct {
	at    time.Time
	bytes int64
}

// rateWindow is how many samples the rate spans: five seconds of a pull's reports.
const rateWindow = 25

func (m *rateMeter) add(at time.Time, bytes int64) {
	m.samples = append(m.samples, rateSample{at, bytes})
	if len(m.samples) > rateWindow {
		m.samples = m.samples[1:]
	}
}

func (m *rateMeter) bytesPerSecond() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(last.bytes-first.bytes) / seconds
}
