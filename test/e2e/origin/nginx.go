// Package origin runs nginx, the server that most images come from, and reads from its access log what it sent to whom.
package origin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const (
	startLimit = 10 * time.Second
	stopGrace  = 5 * time.Second
	// PacedPath is where each connection is held to a speed, so that something can happen in the middle of a pull.
	PacedPath = "/paced/"
	pacedRate = 6 << 20 // bytes per second
)

// Server is a running nginx.
type Server struct {
	// URL has no slash at its end.
	URL string

	dir     string
	process *process.Process
}

// The log's fields are separated by tabs; the agent's user agent ends with the name of its node. Send buffers are small, because the log
// counts what lies in them as sent also when the client's machine is gone.
const config = `daemon off;
user root;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 1024; }
http {
  log_format story '$uri\t$status\t$body_bytes_sent\t$http_user_agent';
  access_log %[1]s/access.log story;
  client_body_temp_path %[1]s/temp; proxy_temp_path %[1]s/temp; fastcgi_temp_path %[1]s/temp;
  uwsgi_temp_path %[1]s/temp; scgi_temp_path %[1]s/temp;
  sendfile on;
  server {
    listen %[2]s sndbuf=256k;
    root %[1]s/files;
    location %[3]s { alias %[1]s/files/; limit_rate %[4]d; }
  }
}
`

// Start starts nginx and returns when it accepts connections.
func Start(ctx context.Context, dir string, address netip.AddrPort) (*Server, error) {
	s := &Server{URL: "http://" + address.String(), dir: dir}
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
		return nil, fmt.Errorf("make nginx's folder: %w", err)
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, config, dir, address, PacedPath, pacedRate), 0o600); err != nil {
		return nil, fmt.Errorf("write nginx's configuration: %w", err)
	}
	var err error
	s.process, err = process.Start(process.Command{
		Name: "nginx", Path: "/usr/sbin/nginx", Args: []string{"-e", "stderr", "-c", path}, LogPath: s.LogPath(),
	})
	if err != nil {
		return nil, err
	}
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address.String())
		if err == nil {
			return s, conn.Close()
		}
		if time.Since(begin) > startLimit || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("wait for nginx: %w; its log:\n%s", err, process.Tail(s.LogPath(), 20)), s.Stop())
		}
	}
}

// Stop ends nginx with its workers.
func (s *Server) Stop() error { return s.process.Stop(stopGrace) }

// LogPath is the file of nginx's errors.
func (s *Server) LogPath() string { return filepath.Join(s.dir, "nginx.log") }

// Path is where a file of that name is served from.
func (s *Server) Path(name string) string { return filepath.Join(s.dir, "files", name) }

// Sent tells how many bytes of bodies nginx sent for a path, by the last word of the clients' user agents without brackets: the node's
// name. A request is counted when it has ended, and a byte when the kernel took it, whether or not it arrived.
func (s *Server) Sent(path string) (map[string]int64, error) {
	file, err := os.Open(filepath.Join(s.dir, "access.log"))
	if err != nil {
		return nil, fmt.Errorf("read nginx's access log: %w", err)
	}
	defer file.Close()
	sent := map[string]int64{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 4 || fields[0] != path {
			continue
		}
		bytes, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read nginx's access log: %w", err)
		}
		agent := fields[3]
		sent[strings.Trim(agent[strings.LastIndexByte(agent, ' ')+1:], "()")] += bytes
	}
	return sent, lines.Err()
}
