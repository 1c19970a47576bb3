package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// ours is the name of what is measured; the other tools are peers.
const ours = "node-agent"

// before is another build of it, such as that of the commit before a change. It is no peer.
const before = "node-agent before"

// curlThenHash is the peer whose CPU seconds are a bar.
const curlThenHash = "curl + openssl"

// job is one download that a tool is to do.
type job struct {
	url    string
	size   int64
	dir    string // empty, the tool's own
	digest string
	caFile string // "" without TLS
	resume bool   // an earlier run of it was killed
}

// out is where a peer writes to.
func (j job) out() string { return filepath.Join(j.dir, "out") }

// base and name are the two halves of the URL.
func (j job) base() string { return j.url[:strings.LastIndexByte(j.url, '/')+1] }
func (j job) name() string { return j.url[strings.LastIndexByte(j.url, '/')+1:] }

// tool is a way to download. What a peer leaves undone of hash, sync and rename, the bench appends, and counts.
type tool struct {
	name    string
	note    string // for the report
	version []string
	command func(job) []string
	// hashes: it prints the digest last. publishes: it does everything by itself.
	hashes, publishes bool
}

// tools are all of them, in the order of the table; bin is where the built programs are.
func tools(bin string) []tool {
	program := func(name string) string { return filepath.Join(bin, name) }
	return []tool{
		{name: ours, note: "pull --connections 8", publishes: true, command: func(j job) []string { return oursCommand(program("node-agent"), j) }},
		{name: "aria2", note: "-x8 -s8 --file-allocation=falloc", version: []string{"aria2c", "--version"}, command: aria2Command},
		{name: "axel", note: "-n8", version: []string{"axel", "--version"}, command: axelCommand},
		{name: "rclone", note: "copyto --multi-thread-streams 8, built with the http and local backends only", version: []string{program("rclone"), "version"}, command: func(j job) []string { return rcloneCommand(program("rclone"), j) }},
		{name: "equal ranges", note: "eight equal ranges at once, then the hash", hashes: true, command: func(j job) []string {
			return []string{program("equalranges"), "-n", fmt.Sprint(connections), "-o", j.out(), j.url}
		}},
		{name: curlThenHash, note: "curl, then openssl dgst", version: []string{"curl", "--version"}, command: curlCommand},
		{name: "curl tee openssl", note: "curl, teed into openssl dgst", version: []string{"openssl", "version"}, hashes: true, command: teeCommand},
	}
}

// buildBefore is another build of node-agent as a tool.
func buildBefore(program string) tool {
	return tool{name: before, note: "pull --connections 8 of another build", publishes: true, command: func(j job) []string { return oursCommand(program, j) }}
}

func oursCommand(program string, j job) []string {
	command := []string{program, "pull", "--store", filepath.Join(j.dir, "store"), "--digest", "sha256:" + j.digest,
		"--connections", fmt.Sprint(connections), "--output", "json"}
	if j.caFile != "" {
		command = append(command, "--cacert", j.caFile)
	}
	return append(command, j.url)
}

func aria2Command(j job) []string {
	// falloc, because the default writes the whole file once before the download.
	command := []string{"aria2c", "--no-conf", "-x8", "-s8", "--file-allocation=falloc", "--quiet", "--console-log-level=error",
		"--dir", j.dir, "--out", filepath.Base(j.out())}
	if j.caFile != "" {
		command = append(command, "--ca-certificate", j.caFile)
	}
	if j.resume {
		command = append(command, "--continue")
	}
	return append(command, j.url)
}

// axelCommand leaves TLS to SSL_CERT_FILE, and goes on by itself where its state file says.
func axelCommand(j job) []string {
	return []string{"axel", "-n8", "--quiet", "--output", j.out(), j.url}
}

func rcloneCommand(program string, j job) []string {
	// Below its defaults, small objects would come over fewer streams.
	chunk := min(64*mib, j.size/connections)
	command := []string{program, "copyto", "--config", "", "--http-url", j.base(), "--multi-thread-streams", fmt.Sprint(connections),
		"--multi-thread-cutoff", "1Mi", "--multi-thread-chunk-size", fmt.Sprintf("%dB", chunk), "--quiet"}
	if j.caFile != "" {
		command = append(command, "--ca-cert", j.caFile)
	}
	return append(command, ":http:"+j.name(), j.out())
}

func curlCommand(j job) []string { return curl(j, "--output", j.out()) }

func teeCommand(j job) []string {
	return append([]string{"bash", "-c", `set -o pipefail; out=$1; shift; "$@" | tee "$out" | openssl dgst -sha256`, "bash", j.out()}, curl(j)...)
}

func curl(j job, more ...string) []string {
	command := append([]string{"curl", "--disable", "--silent", "--show-error", "--fail"}, more...)
	if j.caFile != "" {
		command = append(command, "--cacert", j.caFile)
	}
	if j.resume {
		command = append(command, "--continue-at", "-")
	}
	return append(command, j.url)
}
