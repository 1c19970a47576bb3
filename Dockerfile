# The images of the manager and of the node-agent, for those who build with a container engine:
#
#   docker build --target manager    --build-arg VERSION=v0.1.0 -t ghcr.io/cloudimage-dev/cloudimage-manager:v0.1.0 .
#   docker build --target node-agent --build-arg VERSION=v0.1.0 -t ghcr.io/cloudimage-dev/cloudimage-node-agent:v0.1.0 .
#
# `make release` makes the same contents without an engine; a test compares the two. CONTRIBUTING.md says how the compiler is renewed.
FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:3c3e25a4da13fd0478eed2df1eb35a0e667094a7124d3993a6a1d30f71c17e79 AS build
ARG TARGETOS TARGETARCH VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY api api
COPY cmd cmd
COPY internal internal
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags="-s -w -buildid= -X main.version=$VERSION" -o /out/ ./cmd/manager ./cmd/node-agent

FROM scratch AS base
COPY test/tools/release/rootfs /
USER 65532:65532

FROM base AS manager
COPY --from=build --chmod=0755 /out/manager /manager
ENTRYPOINT ["/manager"]
LABEL org.opencontainers.image.title="cloudimage-manager" \
      org.opencontainers.image.description="Assigns cloud images to Kubernetes nodes" \
      org.opencontainers.image.source="https://github.com/cloudimage-dev/cloudimage-operator" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM base AS node-agent
COPY --from=build --chmod=0755 /out/node-agent /node-agent
ENTRYPOINT ["/node-agent"]
LABEL org.opencontainers.image.title="cloudimage-node-agent" \
      org.opencontainers.image.description="Pulls cloud images onto the disk of a Kubernetes node" \
      org.opencontainers.image.source="https://github.com/cloudimage-dev/cloudimage-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
