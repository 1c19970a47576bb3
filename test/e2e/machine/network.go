package machine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
)

const (
	bridge = "br0"
	// cable is the name of a node's only network interface.
	cable = "eth0"
)

// Switch is a bridge in the network namespace of this process; everything on it goes when the last process in there ends.
type Switch struct{}

// NewSwitch makes the bridge, with an address for this side.
func NewSwitch(ctx context.Context, address netip.Prefix) (*Switch, error) {
	return &Switch{}, ip(ctx,
		"link set lo up",
		"link add "+bridge+" type bridge",
		fmt.Sprintf("address add %s dev %s", address, bridge),
		"link set "+bridge+" up",
	)
}

// plug lays a cable from the switch to the network namespace of a process, and lets this side reach the node's Pods. The hardware address is made of the network address, so that
// neighbours still know a node that was switched off and on.
func (*Switch) plug(ctx context.Context, spec Spec, pid int) error {
	address := spec.Address.Addr()
	octets := address.As4()
	hardware := fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", octets[0], octets[1], octets[2], octets[3])
	port := portOf(spec.Name)
	return ip(ctx,
		fmt.Sprintf("link add %s type veth peer name %s address %s netns %d", port, cable, hardware, pid),
		fmt.Sprintf("link set %s master %s up", port, bridge),
		fmt.Sprintf("route replace %s via %s", spec.Pods, address),
	)
}

// unplug takes the cable of a node that lost its power, whose namespace the kernel may keep for a while.
func (*Switch) unplug(ctx context.Context, name string) error {
	port := portOf(name)
	err := ip(ctx, "link delete "+port)
	if _, missing := net.InterfaceByName(port); missing != nil { // it went with the namespace
		return nil
	}
	return err
}

func portOf(name string) string { return "to-" + name }

func ip(ctx context.Context, lines ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(lines, "; "), err, out)
	}
	return nil
}
