module github.com/cloudimage-dev/cloudimage-operator/test/powercut

go 1.26.0

require (
	github.com/cloudimage-dev/cloudimage-operator v0.0.0-00010101000000-000000000000
	github.com/hanwen/go-fuse/v2 v2.12.1
	golang.org/x/sys v0.49.0
)

require (
	golang.org/x/net v0.59.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/cloudimage-dev/cloudimage-operator => ../..
