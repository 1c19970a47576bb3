module github.com/cloudimage-dev/cloudimage-operator/test/health

go 1.26.0

require (
	github.com/fluxcd/cli-utils v1.3.0
	k8s.io/apimachinery v0.37.2
	sigs.k8s.io/yaml v1.6.0
)
