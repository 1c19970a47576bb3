package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/machine"
)

// reboot is a power cut: everything on the node is killed at once, kubelet, containerd and every container.
func (s *story) reboot(ctx context.Context) error {
	begin, one := time.Now(), s.machines[0]
	image, err := s.serveLarge("rebooted")
	if err != nil {
		return err
	}
	if err := s.untilPulling(ctx, image, one.Name, []string{one.Name}, image.size/3); err != nil {
		return err
	}
	if err := one.PowerOff(ctx); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "%s lost its power: nothing runs there any more", one.Name)
	if err := s.powerOn(ctx, one); err != nil {
		return err
	}
	s.out.Note(one.Name + " is switched on again; its disk is as it was")
	if _, err := s.show(ctx, "kubectl wait --for=condition=Ready cimg/"+image.name+" "+waitFor); err != nil {
		return err
	}
	status, err := s.statusOn(ctx, one.Name, image.name)
	if err != nil {
		return err
	}
	if status.State != "Ready" || status.ResumedBytes == 0 {
		return fmt.Errorf("the pull on %s did not go on where it ended: %+v", one.Name, status)
	}
	s.out.Held(time.Since(begin), "the pull went on: %.0f MiB of %.0f MiB were not fetched again", float64(status.ResumedBytes)/mib, float64(image.size)/mib)
	if err := s.requireSent(image, []string{one.Name}); err != nil {
		return err
	}
	return s.withdraw(ctx, image)
}

// replaceNode removes a Node for good, as far as the cluster knows, and then brings it back under its old name.
func (s *story) replaceNode(ctx context.Context) error {
	begin, one := time.Now(), s.machines[nodeCount-1]
	old, err := s.ask(ctx, "kubectl get node "+one.Name+" -o jsonpath='{.metadata.uid}'")
	if err != nil {
		return err
	}
	for _, line := range []string{
		"kubectl drain " + one.Name + " --ignore-daemonsets --delete-emptydir-data --timeout=60s",
		"kubectl delete node " + one.Name,
	} {
		if _, err := s.show(ctx, line); err != nil {
			return err
		}
	}
	if err := one.PowerOff(ctx); err != nil { // before its kubelet registers it again
		return err
	}
	// The kubelet may have done so between the two.
	if _, err := s.ask(ctx, "kubectl delete node "+one.Name+" --ignore-not-found"); err != nil {
		return err
	}
	err = s.until(ctx, func() error {
		out, err := s.ask(ctx, fmt.Sprintf("kubectl get nimg %s --ignore-not-found; kubectl get cimg %s -o jsonpath='{.status.nodes.desired}'", one.Name, s.guest.name))
		if err == nil && out != "2" {
			err = fmt.Errorf("%s is not forgotten yet: %s", one.Name, out)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get node,nimg && kubectl get cimg"); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "%s is gone, and its object with it", one.Name)
	return s.addAgain(ctx, one, old)
}

// addAgain switches the node on with its disk, but with nothing that its kubelet remembers.
func (s *story) addAgain(ctx context.Context, one *machine.Machine, oldUID string) error {
	begin := time.Now()
	before, err := s.origin.Sent(s.guest.urlPath)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(one.Disk(), "lib", "kubelet")); err != nil {
		return fmt.Errorf("wipe what the kubelet remembers: %w", err)
	}
	if err := s.powerOn(ctx, one); err != nil {
		return err
	}
	if err := s.waitNodes(ctx); err != nil {
		return err
	}
	if _, err := s.show(ctx, fmt.Sprintf("kubectl wait --for=jsonpath='{.status.nodes.ready}'=%d cimg/%s %s", nodeCount, s.guest.name, waitFor)); err != nil {
		return err
	}
	out, err := s.show(ctx, fmt.Sprintf("kubectl get node %s -o jsonpath='{.metadata.uid}'; echo; kubectl get nimg %[1]s -o jsonpath='{.status.nodeUID}'", one.Name))
	if err != nil {
		return err
	}
	var uid, echoed string
	if _, err := fmt.Sscan(out, &uid, &echoed); err != nil || uid == oldUID || uid != echoed {
		return fmt.Errorf("the node was %s, is %s, and its agent reports for %s", oldUID, uid, echoed)
	}
	after, err := s.origin.Sent(s.guest.urlPath)
	if err != nil {
		return err
	}
	if before[one.Name] != after[one.Name] {
		return fmt.Errorf("%s fetched %d bytes that lay on its disk", one.Name, after[one.Name]-before[one.Name])
	}
	s.out.Held(time.Since(begin), "%s is another Node under its old name; it verified what lay on its disk and fetched not one byte", one.Name)
	return nil
}
