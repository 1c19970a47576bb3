package pull

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
)

// ErrUntrusted is wrapped by the failure of a pull whose server shows a certificate
// of an authority that is not trusted. How to name another authority depends on
// where the pull was ordered, so the message leaves that out.
var ErrUntrusted = errors.New("the authority is not trusted")

// tlsError says what is wrong with TLS, and what mends it; nil if it is not that.
// Nearly all of it stays as it is when it is asked again.
func tlsError(who string, err error) *Error {
	text, final := certificateText(err), true
	if text == "" {
		text, final = handshakeText(err)
	}
	if text == "" {
		return nil
	}
	e := &Error{Kind: SourceUnavailable, Message: who + text, Err: err, unsaid: true, final: final}
	if isUntrusted(err) {
		e.Err = errors.Join(ErrUntrusted, err)
	}
	return e
}

func isUntrusted(err error) bool {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, noRoots := errors.AsType[x509.SystemRootsError](err)
	return unknown || noRoots
}

// certificateText is for a certificate that does not stand for the host.
func certificateText(err error) string {
	if isUntrusted(err) {
		return "'s certificate is signed by an authority that is not trusted here"
	}
	if wrong, ok := errors.AsType[x509.HostnameError](err); ok {
		names := wrong.Certificate
		switch {
		case len(names.DNSNames)+len(names.IPAddresses)+len(names.URIs)+len(names.EmailAddresses) == 0:
			return "'s certificate names its host in the Common Name only, which does not count (RFC 9110 §4.3.4): have it issued with subjectAltName"
		case net.ParseIP(strings.Trim(wrong.Host, "[]")) != nil:
			return "'s certificate is not for the address " + wrong.Host + ": use the name that it is for, or have it issued for the address"
		default:
			return "'s certificate is not for the name " + wrong.Host + ": use the name that it is for, or have it issued for this one"
		}
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return "'s certificate is not valid at this node's time: set its clock, or renew the certificate"
		case x509.IncompatibleUsage:
			return "'s certificate is not one for servers: have it issued for server authentication"
		default:
			return "'s certificate was signed by a certificate that may not do that: have it issued by an authority that may"
		}
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "'s certificate cannot be verified: have it issued again, with a current algorithm"
	}
	return ""
}

// handshakeText is for a server that speaks no TLS, or no TLS with this client. final
// tells whether it would say the same again.
func handshakeText(err error) (text string, final bool) {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return " does not speak TLS there: check the port in the URL, or use http:// with a digest", true
	}
	if strings.Contains(err.Error(), "tls: server selected unsupported protocol version") {
		return " speaks TLS in older versions than 1.2 only: have it offer 1.2 or 1.3", true
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" { // how crypto/tls names an alert of the other side
		return "", false
	}
	switch alert := strings.TrimPrefix(op.Err.Error(), "tls: "); alert { // RFC 8446 §6.2, in crypto/tls's words
	case "protocol version not supported":
		return " speaks TLS in no version from 1.2 on: have it offer 1.2 or 1.3", true
	case "handshake failure":
		return " ends the TLS handshake: have it offer a current cipher suite", true
	case "unrecognized name":
		return " serves no host of that name over TLS: check the host in the URL", true
	case "certificate required", "bad certificate":
		return " wants a certificate of the client, which is not supported: use another way to show who you are", true
	default:
		return " ends the TLS connection (" + alert + ")", false
	}
}
