// Package pull turns a URL into a verified, durable file: the engine that
// downloads virtual-machine disk images, and the store that keeps them. It
// knows nothing of Kubernetes.
//
// A pull asks for the first bytes with a Range request. A server that answers
// with a range is read over several HTTP/1.1 connections, in leases handed out
// in file order; any other server is read as the one stream it sends. Progress
// is a set of committed 1 MiB units, each with the CRC-32C of the bytes as they
// arrived. One goroutine re-reads the file behind the frontier of that set,
// compares the checksums and computes SHA-256, so that hashing costs no time of
// its own. Only bytes that were re-read and hashed are published, under a name
// that is their digest. Another goroutine moves the data to stable storage, keeps
// it out of the page cache, and writes a journal of what is durable, with which a
// pull that was killed goes on.
//
// A lease is not its worker's to the end: whoever is idle takes the back of the
// one that would take longest (steal.go decides, takeover.go does it), and a last
// unit is fetched twice, for the first to become its owner. The number of
// connections follows the rate, the hasher and what the server refuses
// (governor.go), and the budgets that the pulls of a store share (budget.go,
// limit.go).
//
// The store bounds what it takes (space.go, usage.go), lets go of what nobody uses
// when a pull needs the room (evict.go, inuse.go, unused.go), reads its blobs again
// (scrub.go) and notices when its directory changes under it (check.go).
//
// What the bytes are is judged by package diskimage, before space is taken and on the
// finished file (inspect.go).
//
// The package is Linux only. Its pure parts (ranges, answers, units, leases,
// journal.go, addresses, redaction) do no I/O; source.go talks HTTP;
// dir.go, store.go, blob.go, checkpoint.go, flush.go and publish.go touch the disk; pull.go is the ladder of
// attempts that joins them.
package pull
