package source

import (
	"errors"
	"strings"
)

// HostPattern is a host, or all hosts below a name.
type HostPattern struct {
	host  string
	below bool
}

// ParseHostPattern reads a host as Host does, or *.example.com for every name below
// example.com, but not for that name itself.
func ParseHostPattern(text string) (HostPattern, error) {
	name, below := strings.CutPrefix(text, "*.")
	host, err := Host(name)
	switch {
	case strings.Contains(name, "/"):
		err = errors.New("it is a URL: write its host alone")
	case strings.Count(name, ":") == 1:
		err = errors.New("it has a port: write the host alone")
	case err == nil && below && (isAddress(host) || strings.HasPrefix(name, "[")):
		err = errors.New("an address has nothing below it")
	}
	if err != nil {
		return HostPattern{}, hostError(text, err)
	}
	return HostPattern{host, below}, nil
}

// Matches tells whether the pattern stands for the host of an address.
func (p HostPattern) Matches(a Address) bool {
	if !p.below {
		return p.host != "" && p.host == a.host
	}
	label, found := strings.CutSuffix(a.host, "."+p.host)
	return found && label != ""
}
