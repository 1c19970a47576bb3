package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	plugLimit    = 10 * time.Second
	restartDelay = time.Second
)

// Init is the first process of a node. It returns only when the node could not be set up; otherwise it starts the services, starts
// them again a second after one ended, and collects every process that lost its parent.
func Init(specPath string) error {
	data, err := os.ReadFile(specPath)
	if err != nil {
		return fmt.Errorf("read the specification: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("read the specification: %w", err)
	}
	if err := enterRoot(spec); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(spec.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := setUpNetwork(spec); err != nil {
		return err
	}
	return supervise(services(spec))
}

// service is a program that is kept running.
type service struct {
	name string
	argv []string
}

// supervise is the whole of an init system: os/exec must not wait for children here, because whoever waits for all takes its results.
func supervise(all []service) error {
	running := map[int]service{}
	for _, one := range all {
		pid, err := one.start()
		if err != nil {
			return err
		}
		running[pid] = one
	}
	again := make(chan service)
	ended := make(chan int)
	go reap(ended)
	for {
		select {
		case pid := <-ended:
			if one, ours := running[pid]; ours {
				delete(running, pid)
				fmt.Printf("%s ended; it is started again in %s\n", one.name, restartDelay)
				time.AfterFunc(restartDelay, func() { again <- one })
			}
		case one := <-again:
			pid, err := one.start()
			if err != nil {
				return err
			}
			running[pid] = one
		}
	}
}

func reap(ended chan<- int) {
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		switch {
		case err == nil:
			ended <- pid
		case errors.Is(err, syscall.ECHILD):
			time.Sleep(restartDelay / 4) // all services ended at once, and are about to be started again
		}
	}
}

func (s service) start() (int, error) {
	log, err := os.OpenFile(filepath.Join(logFolder, s.name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, fmt.Errorf("open the log of %s: %w", s.name, err)
	}
	defer log.Close()
	path, err := exec.LookPath(s.argv[0])
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", s.name, err)
	}
	started, err := os.StartProcess(path, s.argv, &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=" + searchPath, "HOME=/root"}, Files: []*os.File{nil, log, log},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", s.name, err)
	}
	defer func() { _ = started.Release() }() // reap waits for it
	return started.Pid, nil
}

// setUpNetwork waits for the cable and gives the node its address and its routes.
func setUpNetwork(spec Spec) error {
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := net.InterfaceByName(cable); err == nil {
			break
		}
		if time.Since(begin) > plugLimit {
			return fmt.Errorf("no network cable within %s", plugLimit)
		}
	}
	lines := []string{
		"link set lo up",
		fmt.Sprintf("address add %s dev %s", spec.Address, cable),
		fmt.Sprintf("link set %s up", cable),
		// Nothing is beyond, but the kubelet and kube-proxy want to see a default route.
		fmt.Sprintf("route add default dev %s", cable),
	}
	for peer, pods := range spec.PeerPods {
		lines = append(lines, fmt.Sprintf("route add %s via %s", pods, peer))
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("set up the network: %w: %s", err, out)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("let the node forward its Pods' packets: %w", err)
	}
	return nil
}
