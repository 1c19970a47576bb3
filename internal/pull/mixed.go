package pull

import "sync/atomic"

// mixed is what a pull knows of copies of its object that differ in their
// validators, and perhaps in their bytes: mirrors that name equal bytes
// differently, or are not all up to date. Only under an expected digest do bytes
// of several copies meet.
type mixed struct {
	met   bool         // bytes of several editions, which together had a wrong digest
	wrong string       // the first wrong digest
	other bool         // another one followed
	only  edition      // that ranges may have from now on; mixedEdition is any
	own   atomic.Int64 // bytes that this pull brought and goes on with
}

// mismatch returns the error of an attempt whose bytes have the digest sum. A
// mixture says nothing about the source: what does not come from the copy of which
// most came is fetched again. One response does, unless it differs from the bytes
// that came before it from several copies: then these are not all the same yet.
func (m *mixed) mismatch(t *transfer, how opening, sum, want string) error {
	_, _, size := t.sched.progress()
	m.other = m.other || m.wrong != "" && m.wrong != sum
	if m.wrong == "" {
		m.wrong = sum
	}
	if _, several := t.sched.mixture(); several {
		m.met = true
		e := fail(SourceChanged, "ranges under several entity tags come to sha256:%s (%d bytes), not to the expected sha256:%s", sum, size, want)
		e.mixture = true
		return e
	}
	if how == openStream && m.met && m.other {
		e := fail(SourceChanged, "the copies of the object that the source serves differ, and the last one, sha256:%s (%d bytes), is not the expected sha256:%s: wait until they are all the same, or correct the digest",
			sum, size, want)
		e.final = true
		return e
	}
	return fail(DigestMismatch, "the source serves sha256:%s (%d bytes), not the expected sha256:%s: correct the digest or the source", sum, size, want)
}

// keep makes a mixture one that the next attempt goes on with: the bytes of one
// copy, to which it adds from no other. It is called once every goroutine of the
// transfer has ended.
func (m *mixed) keep(t *transfer) {
	m.only, _ = t.sched.mixture()
	kept := t.sched.keep(m.only)
	m.own.Store(max(0, kept-m.resumed(t)))
	t.flush.behind = true
}

// resumed returns how many bytes of a transfer an earlier pull left.
func (m *mixed) resumed(t *transfer) int64 { return max(0, t.sched.resumedBytes()-m.own.Load()) }
