package pull

import (
	"hash/fnv"
	"net/http"
	"strings"
)

// edition tells under which validator bytes came, weak or strong. Only an expected
// digest lets bytes of several editions stand side by side, and it decides over
// them: the edition is a hint about which of them to fetch again, and a hash does.
type edition uint64

// mixedEdition is that of a unit whose bytes came in several answers that differ.
const mixedEdition edition = 0

// editionOf returns the edition of an answer's bytes.
func editionOf(h http.Header) edition {
	if tag := strings.TrimSpace(h.Get("ETag")); tag != "" {
		return newEdition(tag)
	}
	return newEdition(h.Get("Last-Modified"))
}

// edition is that of an answer with this validator.
func (v validator) edition() edition { return newEdition(v.etag + v.lastModified) }

func newEdition(text string) edition {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(text)) // a hash never fails to write
	return edition(max(1, sum.Sum64()))
}

// mark notes the edition of what is about to be written at the lease's position.
func (l *lease) mark() {
	switch {
	case l.next%unitSize == 0:
		l.from = l.answer
	case l.from != l.answer:
		l.from = mixedEdition
	}
}

// majority returns the edition of most bytes, and whether there are others.
func (m *unitMap) majority() (most edition, mixed bool) {
	sizes := map[edition]int64{}
	for unit, from := range m.from {
		if m.has(unit) {
			sizes[from] += m.sizeOf(unit)
		}
	}
	for from, size := range sizes {
		if from != mixedEdition && (size > sizes[most] || size == sizes[most] && from < most || most == mixedEdition) {
			most = from
		}
	}
	return most, len(sizes) > 1 || sizes[mixedEdition] > 0
}

// mixture returns the edition of most bytes, if there are several. Where one
// response brought or confirmed the whole object there is one.
func (s *scheduler) mixture() (most edition, mixed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streaming {
		return 0, false
	}
	return s.units.majority()
}

// keep takes back every unit of another edition, and returns the bytes that stay.
func (s *scheduler) keep(from edition) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for unit, other := range s.units.from {
		if other == from || !s.units.has(unit) {
			continue
		}
		size := s.units.sizeOf(unit)
		s.units.revoke(unit, size)
		if unit/64 < len(s.earlier) && s.earlier[unit/64]&(1<<(unit%64)) != 0 {
			s.resumed -= size
		}
	}
	return s.units.committed
}
