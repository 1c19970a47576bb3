package pull

import (
	"net/url"
	"slices"
	"strings"
)

// signatures are the query parameters, in lower case, that make a URL a signed
// one: of S3 and what is compatible with it, Google Cloud Storage, CloudFront and
// Alibaba's object store, Azure's shared access signatures, and Tencent's store.
var signatures = []string{"x-amz-signature", "x-goog-signature", "signature", "sig", "q-signature"}

// signatureParameters are the parameters that come with a signature and say who
// may read an object and until when, and not which object it is.
var signatureParameters = append([]string{
	"x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-security-token", "x-amz-signedheaders",
	"x-goog-algorithm", "x-goog-credential", "x-goog-date", "x-goog-expires", "x-goog-signedheaders", "googleaccessid",
	"awsaccesskeyid", "expires", "key-pair-id", "policy", "ossaccesskeyid", "security-token",
	"se", "st", "sp", "sv", "sr", "spr", "sip", "skoid", "sktid", "skt", "ske", "sks", "skv",
	"q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "x-cos-security-token",
}, signatures...)

// unsigned returns the URL without the values of its signature parameters. What
// it returns names the object, as far as a URL can, also once it is signed again.
func unsigned(u *url.URL) string {
	parameters := strings.Split(u.RawQuery, "&")
	among := func(names []string) func(string) bool {
		return func(parameter string) bool { return slices.Contains(names, parameterName(parameter)) }
	}
	if slices.ContainsFunc(parameters, among(signatures)) {
		for i, parameter := range parameters {
			if among(signatureParameters)(parameter) {
				parameters[i] = parameterName(parameter)
			}
		}
	}
	bare := *u
	bare.RawQuery = strings.Join(parameters, "&")
	return bare.String()
}

func parameterName(parameter string) string {
	name, _, _ := strings.Cut(parameter, "=")
	return strings.ToLower(name)
}
