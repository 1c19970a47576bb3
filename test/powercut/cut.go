package powercut

import (
	"maps"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// durable reports whether a change of n survives a power cut before the
// operation at cut, whatever happens.
func (n *node) durable(c change, cut int) bool {
	if c.doomed {
		return false
	}
	for _, s := range slices.Backward(n.syncs) {
		if s.at < c.at {
			return false
		}
		if s.at < cut && (c.kind != Chmod || !s.dataOnly) {
			return true
		}
	}
	return false
}

// slot is a name in a directory whose meaning after a power cut is open: any of
// its versions from the first, which is durable, to the last.
type slot struct {
	dir      *node
	name     string
	versions []version
}

// slots returns every name in every directory with the versions that a power cut
// before the operation at cut may leave, in the order of their first open change.
func (d *Disk) slots(cut int) []slot {
	var all []slot
	for _, ino := range slices.Sorted(maps.Keys(d.nodes)) {
		n := d.nodes[ino]
		synced := fromStart
		for _, s := range n.syncs {
			if s.at < cut {
				synced = s.at
			}
		}
		for _, name := range slices.Sorted(maps.Keys(n.slots)) {
			first, end := 0, 0
			for i, v := range n.slots[name] {
				if v.at <= synced {
					first = i
				}
				if v.at < cut {
					end = i + 1
				}
			}
			all = append(all, slot{n, name, n.slots[name][first:end]})
		}
	}
	slices.SortStableFunc(all, func(a, b slot) int { return a.firstOpen() - b.firstOpen() })
	return all
}

// open reports whether there is a choice.
func (s slot) open() bool { return len(s.versions) > 1 }

func (s slot) firstOpen() int {
	if !s.open() {
		return fromStart
	}
	return s.versions[1].at
}

// Cut returns a disk that holds what a power cut may leave of d: a choice among
// all that was not synced when the first at operations had been made. Nothing of
// it is open any more.
func (d *Disk) Cut(at int, c Choice) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	slots := d.slots(at)
	chosen := map[*node]map[string]version{}
	number := 0
	for _, s := range slots {
		if chosen[s.dir] == nil {
			chosen[s.dir] = map[string]version{}
		}
		pick := 0
		if s.open() {
			pick = c.names(number, s.versions)
			number++
		}
		chosen[s.dir][s.name] = s.versions[pick]
	}
	d.keepMoves(at, chosen)
	left := &Disk{nodes: map[Ino]*node{}, last: d.last, clock: d.clock}
	d.copyTree(left, d.nodes[RootIno], "/", at, chosen, c)
	return left
}

// keepMoves makes every rename whose old name is gone have its new one.
func (d *Disk) keepMoves(cut int, chosen map[*node]map[string]version) {
	for again := true; again; {
		again = false
		for _, m := range d.moves {
			if m.at >= cut || chosen[m.from][m.old].at < m.at || chosen[m.to][m.name].at >= m.at {
				continue
			}
			again = true
			for _, v := range m.to.slots[m.name] {
				if v.at == m.at {
					chosen[m.to][m.name] = v
				}
			}
		}
	}
}

// copyTree copies n and what is chosen below it to another disk.
func (d *Disk) copyTree(left *Disk, n *node, at string, cut int, chosen map[*node]map[string]version, c Choice) {
	rest := n.replay(cut, c)
	twin := &node{
		ino: n.ino, links: 1, ctime: n.ctime, target: n.target, path: at,
		image: rest, base: rest.clone(),
	}
	left.nodes[n.ino] = twin
	if !n.isDir() {
		return
	}
	twin.slots = map[string][]version{}
	for _, name := range slices.Sorted(maps.Keys(chosen[n])) {
		child := d.nodes[chosen[n][name].ino]
		switch {
		case child == nil:
			continue
		case left.nodes[child.ino] != nil: // another name of it
			left.nodes[child.ino].links++
		default:
			d.copyTree(left, child, twin.below(name), cut, chosen, c)
		}
		twin.slots[name] = []version{{fromStart, child.ino}}
	}
}

// replay returns what is left of the content of n.
func (n *node) replay(cut int, c Choice) image {
	rest := n.base.clone()
	for _, change := range n.changes {
		if change.at >= cut {
			break
		}
		fate := Kept
		if !n.durable(change, cut) {
			fate = c.data(change.at)
		}
		rest.suffer(change, fate, c.random)
	}
	return rest
}

// File is what a path of a disk leads to.
type File struct {
	Attr
	Target string // of a symlink

	image image
}

// IsRegular reports whether it is a plain file.
func (f File) IsRegular() bool { return f.Mode&unix.S_IFMT == unix.S_IFREG }

// Tree returns every path of the disk and what is there.
func (d *Disk) Tree() map[string]File {
	d.mu.Lock()
	defer d.mu.Unlock()
	tree := map[string]File{}
	d.addTree(tree, d.nodes[RootIno], "/")
	return tree
}

func (d *Disk) addTree(tree map[string]File, n *node, at string) {
	tree[at] = File{n.attr(), n.target, n.image.clone()}
	for name := range n.slots {
		if child := d.nodes[n.entry(name)]; child != nil {
			d.addTree(tree, child, path.Join(at, name))
		}
	}
}
