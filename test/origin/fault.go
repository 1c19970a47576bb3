package origin

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// Fault is a way to answer range requests wrongly that servers were seen to have. Requests without a range are answered well.
type Fault int

const (
	// NoFault answers as RFC 9110 says.
	NoFault Fault = iota
	// NoRanges answers every request with the whole file.
	NoRanges
	// ShiftedContentRange sends a span that starts one byte later than the one that was asked for, and says so.
	ShiftedContentRange
	// ShiftedBytes sends such a span, and says that it is the one that was asked for.
	ShiftedBytes
	// ShortChunked announces the span that was asked for and sends half of it, chunked, so that the end looks clean.
	ShortChunked
)

func (f Fault) serve(w http.ResponseWriter, r *http.Request, content *os.File, size int64) {
	first, last, ok := parseRange(r.Header.Get("Range"), size)
	if f == NoRanges || !ok {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		w.WriteHeader(http.StatusOK)
		send(w, content, 0, size)
		return
	}
	shift := int64(0)
	if f == ShiftedContentRange || f == ShiftedBytes {
		shift = 1
	}
	start, length := first+shift, min(last+1+shift, size)-first-shift
	if f == ShiftedContentRange {
		first, last = start, start+length-1
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	if f == ShortChunked {
		w.WriteHeader(http.StatusPartialContent)
		// Without a length, and flushed before net/http can count, the body goes out in chunks.
		if http.NewResponseController(w).Flush() == nil {
			send(w, content, start, length/2)
		}
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	w.WriteHeader(http.StatusPartialContent)
	send(w, content, start, length)
}

// send cannot tell a client about an error any more; a client that went away is not one.
func send(w io.Writer, content *os.File, start, length int64) {
	_, _ = io.Copy(w, io.NewSectionReader(content, start, length))
}

// parseRange reads the two forms that a downloader sends: bytes=1-2 and bytes=1-.
func parseRange(header string, size int64) (first, last int64, ok bool) {
	from, to, found := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	first, err := strconv.ParseInt(from, 10, 64)
	if !found || err != nil || first >= size {
		return 0, 0, false
	}
	if to == "" {
		return first, size - 1, true
	}
	last, err = strconv.ParseInt(to, 10, 64)
	return first, min(last, size-1), err == nil && last >= first
}
