// Package source knows where bytes come from: the address of an object, in the one
// spelling under which it is compared, matched with a rule and asked for, and the
// proxy on the way to it.
package source
