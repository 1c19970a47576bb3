package pull

import (
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/diskimage"
	address "github.com/cloudimage-dev/cloudimage-operator/internal/source"
)

// Format says what an object may be.
type Format = diskimage.Format

// The formats of a Request. A Result carries Qcow2, Raw or Opaque, never Auto.
const (
	FormatAuto   = diskimage.FormatAuto
	FormatQcow2  = diskimage.FormatQcow2
	FormatRaw    = diskimage.FormatRaw
	FormatOpaque = diskimage.FormatOpaque
)

// Verify says how much the last check of the bytes proves.
type Verify string

const (
	// VerifyCache hashes the file as the page cache returns it, then syncs it.
	VerifyCache Verify = "cache"
	// VerifyMedia also syncs the file, drops its pages and hashes what the medium
	// returns, each time, also where the blob is there already.
	VerifyMedia Verify = "media"
)

// Defaults and bounds of a Request's fields.
const (
	DefaultMaxSize      int64 = 20 << 30 // bytes
	DefaultConnections        = 8
	MaxConnections            = 64
	DefaultStallTimeout       = 60 * time.Second
	maxRedirects              = 10
	digestPrefix              = "sha256:"
	sha256Digits              = 64
	maxImageNameLength        = 63
)

// Request names an object and the limits of its pull. The zero value of every
// field but URL means its default.
type Request struct {
	// URL of the object: http or https, without userinfo; see source.Parse.
	URL string
	// Digest is "sha256:" and 64 lower-case hex digits, or "" to take what the
	// source serves.
	Digest string
	// Format is what the object may be; "" is Auto.
	Format Format
	// MaxSize in bytes; anything larger is TooLarge. 0 is DefaultMaxSize.
	MaxSize int64
	// Connections at most, 1 to 64; 0 is 8.
	Connections int
	// MaxBytesPerSecond over all connections; 0 is no limit.
	MaxBytesPerSecond int64
	// StallTimeout is how long a connection may stay silent, also while it is made,
	// and two thirds of how long the pull may go without real progress; 0 is 60 s.
	StallTimeout time.Duration
	// Patience is how long the first request is made again after failures that may
	// pass; 0 is 30 s, AskOnce not at all. A pull that has begun always has 30 s.
	Patience time.Duration
	// Turn, unless nil, is asked before anything is fetched.
	Turn Turn
	// Header is sent to the URL's own origin and to no other.
	Header http.Header
	// RootCAs are trusted for https instead of the system's; nil is the system's.
	RootCAs *x509.CertPool
	// Proxy chooses the proxy of a request; nil is none for all of them.
	Proxy address.Proxy `json:"-"`
	// Addresses says which network addresses may be connected to; the zero
	// value allows all of them.
	Addresses AddressPolicy
	// Verify is the depth of the last check; "" is VerifyCache.
	Verify Verify
	// ImageName makes images/<name> link to the blob; "" makes no link.
	ImageName string
}

// Result describes a published blob. After a failed pull only TransferredBytes,
// Retries and Duration are set.
type Result struct {
	// Digest of the bytes, "sha256:<hex>".
	Digest string
	// SizeBytes of the blob.
	SizeBytes int64
	// Path of the blob.
	Path string
	// Format is Qcow2, Raw or Opaque.
	Format Format
	// VirtualSizeBytes is the size of the disk that a guest sees; 0 for Opaque.
	VirtualSizeBytes int64
	// Encryption of the guest's data, "" for none.
	Encryption diskimage.Encryption
	// Duration from the call to the durable, published blob.
	Duration time.Duration
	// AverageBytesPerSecond is SizeBytes without ResumedBytes over Duration; 0 when
	// AlreadyPresent.
	AverageBytesPerSecond int64
	// Connections is the most that carried bytes at once.
	Connections int
	// Parallel says that the object came in ranges, not as one response.
	Parallel bool
	// TransferredBytes counts every body byte received, also those of attempts
	// that were given up.
	TransferredBytes int64
	// ResumedBytes were found on disk from an earlier pull and not sent again.
	ResumedBytes int64
	// Retries counts repeated requests and restarts.
	Retries int
	// AlreadyPresent says that the store held the bytes and none were fetched.
	AlreadyPresent bool
}

// Progress is a snapshot of a running pull.
type Progress struct {
	// BytesCompleted of the object are on disk. It falls back when the pull restarts,
	// or when what an earlier pull left turns out to be damaged.
	BytesCompleted int64
	// TotalBytes of the object; 0 while unknown.
	TotalBytes int64
	// ResumedBytes of them were on disk from an earlier pull and are not sent again.
	ResumedBytes int64
	// HashedBytes are re-read from disk and hashed.
	HashedBytes int64
	// TransferredBytes over the network so far, as in Result.
	TransferredBytes int64
	// Connections that carry bytes now.
	Connections int
	// Retries so far, as in Result.
	Retries int
}

// job is a Request that was checked and whose defaults are filled in.
type job struct {
	Request
	at      address.Address
	written *url.URL // as it was given; what is left of a pull without a digest is named after it
	digest  string   // 64 hex digits, or ""
}

// newJob checks a request. Every error of it is InvalidSource.
func newJob(r Request) (*job, error) {
	j := &job{Request: r}
	j.setDefaults()
	var err error
	if j.at, err = address.Parse(r.URL); err != nil {
		return nil, fail(InvalidSource, "%v", err)
	}
	j.written = asWritten(r.URL, j.at)
	if r.Digest != "" {
		if j.digest, err = parseDigest(r.Digest); err != nil {
			return nil, err
		}
	}
	if err := j.checkOptions(); err != nil {
		return nil, err
	}
	return j, nil
}

// Check reports what is wrong with a request before anything is asked or opened.
// Its error is InvalidSource.
func (r Request) Check() error {
	_, err := newJob(r)
	return err
}

func (j *job) setDefaults() {
	if j.Format == "" {
		j.Format = FormatAuto
	}
	if j.MaxSize == 0 {
		j.MaxSize = DefaultMaxSize
	}
	if j.Connections == 0 {
		j.Connections = DefaultConnections
	}
	if j.StallTimeout == 0 {
		j.StallTimeout = DefaultStallTimeout
	}
	if j.Verify == "" {
		j.Verify = VerifyCache
	}
}

func (j *job) checkOptions() error {
	switch {
	case j.Connections < 1 || j.Connections > MaxConnections:
		return fail(InvalidSource, "connections is %d: use 1 to %d", j.Connections, MaxConnections)
	case j.MaxSize < 0:
		return fail(InvalidSource, "the largest size is %d: use a positive number of bytes", j.MaxSize)
	case j.MaxBytesPerSecond < 0:
		return fail(InvalidSource, "the rate limit is %d: use a positive number of bytes per second, or 0 for none", j.MaxBytesPerSecond)
	case j.StallTimeout < 0:
		return fail(InvalidSource, "the stall time-out is %s: use a positive duration", j.StallTimeout)
	case j.Verify != VerifyCache && j.Verify != VerifyMedia:
		return fail(InvalidSource, "verify is %q: use %s or %s", j.Verify, VerifyCache, VerifyMedia)
	}
	switch j.Format {
	case FormatAuto, FormatQcow2, FormatRaw, FormatOpaque:
	default:
		return fail(InvalidSource, "format is %q: use Auto, Qcow2, Raw or Opaque", j.Format)
	}
	if j.ImageName != "" {
		if err := checkImageName(j.ImageName); err != nil {
			return err
		}
	}
	return CheckHeader(j.Header)
}

// asWritten is the URL in the spelling that it was given in, which earlier versions
// named unfinished pulls after; in that of its address where that is no URL by itself.
func asWritten(raw string, at address.Address) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		return at.URL()
	}
	u.Fragment, u.RawFragment = "", ""
	return u
}

// parseDigest returns the hex digits of "sha256:<64 lower-case hex digits>".
func parseDigest(digest string) (string, error) {
	digits, ok := strings.CutPrefix(digest, digestPrefix)
	if ok && isBlobName(digits) {
		return digits, nil
	}
	return "", fail(InvalidSource, "digest %.80q is not sha256: followed by 64 lower-case hex digits", digest)
}

// isBlobName reports whether name is a SHA-256 in lower-case hex.
func isBlobName(name string) bool {
	if len(name) != sha256Digits || strings.ToLower(name) != name {
		return false
	}
	_, err := hex.DecodeString(name)
	return err == nil
}

var imageName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// checkImageName admits what a label and a file name both can hold.
func checkImageName(name string) error {
	if len(name) > maxImageNameLength || !imageName.MatchString(name) {
		return fail(InvalidSource, "image name %.80q: use 1 to %d of a-z, 0-9, '.' and '-', beginning and ending with a letter or digit",
			name, maxImageNameLength)
	}
	return nil
}

// reservedHeaders are set by the engine or decide how an answer is framed.
var reservedHeaders = map[string]bool{
	"Range": true, "Accept-Encoding": true, "If-Range": true, "If-Match": true, "If-None-Match": true,
	"If-Modified-Since": true, "If-Unmodified-Since": true, "Connection": true, "Content-Length": true,
	"Transfer-Encoding": true, "Te": true, "Trailer": true, "Upgrade": true, "Expect": true,
}

// CheckHeader reports the first field of h that a Request cannot carry, without
// printing any value.
func CheckHeader(h http.Header) error {
	for name, values := range h {
		if !isToken(name) {
			return fail(InvalidSource, "header name %.80q is not valid", name)
		}
		if reservedHeaders[http.CanonicalHeaderKey(name)] {
			return fail(InvalidSource, "header %s is set by the engine and cannot be given", http.CanonicalHeaderKey(name))
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return fail(InvalidSource, "the value of header %s holds a control character", http.CanonicalHeaderKey(name))
			}
		}
	}
	return nil
}

// isToken reports whether s is a token of RFC 9110 §5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alphanumeric := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
