package pull

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// connectionError says in words of this side what the transport failed with. What a
// server chose (a banner, a line of its head, a name in its certificate) is not
// repeated: whoever may name a URL could otherwise read it from a server that only
// this side reaches.
func connectionError(err error) *Error {
	who := "the server"
	if op, ok := errors.AsType[*net.OpError](err); ok {
		switch op.Op {
		case "proxyconnect": // how net/http names a failure on the way to a proxy
			who, err = "the proxy", op.Err
		case "socks connect":
			return socksRefusal(op.Err)
		}
	}
	if e := tlsError(who, err); e != nil {
		return e
	}
	text := httpError(err)
	switch {
	case strings.Contains(err.Error(), "bad Content-Length"):
		return &Error{Kind: InvalidSource, Message: who + " gives a Content-Length that is no size", Err: err, unsaid: true}
	case errors.Is(err, io.ErrUnexpectedEOF):
		text = "the connection ended within an answer"
	case errors.Is(err, io.EOF):
		text = "the connection to " + who + " ended before it answered"
	case text != "":
		text = who + text
	default:
		return &Error{Kind: SourceUnavailable, Message: "the connection to " + who + " failed", Err: err, unsaid: !ownWords(err)}
	}
	return &Error{Kind: SourceUnavailable, Message: text, Err: err, unsaid: true}
}

// through says that it was the proxy whose address was denied, where the transport
// failed with err on the way to one.
func (e *Error) through(err error) *Error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" {
		return failWith(e.Kind, e, "the proxy cannot be used")
	}
	return e
}

// ownWords tells whether the text of an error comes from this machine alone: from its
// kernel, its resolver or a time-out.
func ownWords(err error) bool {
	_, isErrno := errors.AsType[syscall.Errno](err)
	_, isResolver := errors.AsType[*net.DNSError](err)
	timeout, ok := errors.AsType[net.Error](err)
	return isErrno || isResolver || ok && timeout.Timeout()
}

// httpError says what of an answer is no HTTP; "" if it was not that. net/http has no
// types for these.
func httpError(err error) string {
	text := err.Error()
	for _, known := range []struct{ begin, say string }{
		{"malformed HTTP response", " does not answer in HTTP: check the port in the URL"},
		{"malformed HTTP version", " does not answer in a known version of HTTP"},
		{"malformed HTTP status code", " answers without a valid status"},
		{"malformed MIME header", " sends a header that is no HTTP"},
		{"invalid header", " sends a header that is no HTTP"},
		{"server response headers exceeded", " sends a header of more than 64 KiB"},
		{"unsupported transfer encoding", " sends the object in a Transfer-Encoding that is not supported"},
		{"too many transfer encodings", " sends the object in a Transfer-Encoding that is not supported"},
		{"chunked", " sends a body that is no HTTP"},
		{"chunk", " sends a body that is no HTTP"},
		{"trailer", " sends a body that is no HTTP"},
		{"HTTP/1.x transport connection broken", " sends an answer that is no HTTP"},
	} {
		if strings.Contains(text, known.begin) && !ownWords(err) {
			return known.say
		}
	}
	return ""
}

// proxyRefusal is the error of an answer of a proxy to CONNECT (RFC 9110 §9.3.6)
// that opened no tunnel; nil if it did. A password that was refused is not tried
// again: proxies lock accounts.
func proxyRefusal(host string, answer *http.Response) *Error {
	code, text := answer.StatusCode, http.StatusText(answer.StatusCode)
	var e *Error
	switch {
	case code == http.StatusOK:
		return nil
	case code == http.StatusProxyAuthRequired:
		return proxyWantsCredentials()
	case code == http.StatusTooManyRequests:
		e = fail(SourceThrottled, "the proxy answers %d (%s) to a connection to %s", code, text, host)
	case code >= 500 || code == http.StatusRequestTimeout:
		e = fail(SourceUnavailable, "the proxy could not connect to %s: it answers %d (%s)", host, code, text)
	default:
		e = fail(PolicyDenied, "the proxy refuses a connection to %s: it answers %d (%s); allow it there, or name the host in NO_PROXY", host, code, text)
		e.final = true
	}
	return e.askedToWait(answer.Header, time.Now())
}

func proxyWantsCredentials() *Error {
	e := fail(PolicyDenied, "the proxy refuses this client's credentials or wants some (407): correct user name and password in HTTPS_PROXY or HTTP_PROXY")
	e.final = true
	return e
}

// socksRefusal is the error of a SOCKS proxy (RFC 1928), whose words net/http chooses.
func socksRefusal(err error) *Error {
	e := failWith(SourceUnavailable, err, "the proxy could not connect to the server")
	switch text := err.Error(); {
	case strings.Contains(text, "authentication"):
		e = proxyWantsCredentials()
	case strings.Contains(text, "not allowed by ruleset"):
		e = fail(PolicyDenied, "the proxy refuses the connection by its rules: allow it there, or name the host in NO_PROXY")
		e.final = true
	}
	return e
}
