module github.com/cloudimage-dev/cloudimage-operator/test/tools/release

go 1.26.0

replace github.com/cloudimage-dev/cloudimage-operator => ../../..
