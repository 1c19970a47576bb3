package qcow2

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const mib = 1 << 20

func TestImageIsWhatTheFormatSays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		virtualSize int64
	}{
		{"one cluster", clusterSize},
		{"some MiB", 8 * mib},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var image bytes.Buffer
			summary, err := Write(&image, test.virtualSize, 7)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(image.Bytes())
			if want := "sha256:" + hex.EncodeToString(sum[:]); summary.Digest != want || summary.SizeBytes != int64(image.Len()) {
				t.Errorf("summary %+v, want %d bytes of %s", summary, image.Len(), want)
			}
			check(t, image.Bytes(), test.virtualSize)
		})
	}
}

// TestMetadataOfBigImages covers what needs several tables and blocks, without the data.
func TestMetadataOfBigImages(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                               string
		virtualSize                        int64
		wantRefcountBlocks, wantL2, wantL1 int64
	}{
		{"one L2 table is full", l2Entries * clusterSize, 1, 1, 1},
		{"one cluster more", l2Entries*clusterSize + clusterSize, 1, 2, 1},
		{"a refcount block is full of data alone", refcountEntries * clusterSize, 2, 4, 1},
		{"10 GiB", 10 << 30, 6, 20, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, err := newLayout(test.virtualSize)
			if err != nil {
				t.Fatal(err)
			}
			if l.refcountBlocks != test.wantRefcountBlocks || l.l2 != test.wantL2 || l.l1 != test.wantL1 {
				t.Errorf("layout %+v, want %+v", l, test)
			}
			check(t, l.metadata(), test.virtualSize)
		})
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	t.Parallel()
	digests := map[uint64]string{}
	for _, seed := range []uint64{1, 2, 1} {
		summary, err := Write(io.Discard, mib, seed)
		if err != nil {
			t.Fatal(err)
		}
		if earlier := digests[seed]; earlier != "" && earlier != summary.Digest {
			t.Errorf("seed %d gave %s, then %s", seed, earlier, summary.Digest)
		}
		digests[seed] = summary.Digest
	}
	if digests[1] == digests[2] {
		t.Error("two seeds gave the same bytes")
	}
	// Recorded once: the manifests in config/samples name a digest that every machine must come to.
	if want := "sha256:46304a053afc07ea3b4d099088a7d67d5e551269a239b565822ea8fb311a09d8"; digests[1] != want {
		t.Errorf("digest %s, want %s", digests[1], want)
	}
}

func TestSizesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{-clusterSize, 0, 1, clusterSize + 512} {
		if _, err := Write(io.Discard, size, 1); err == nil {
			t.Errorf("size %d was accepted", size)
		}
	}
}

func TestQemuAgrees(t *testing.T) {
	t.Parallel()
	qemu, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not installed")
	}
	dir := t.TempDir()
	full, sparse := filepath.Join(dir, "full.qcow2"), filepath.Join(dir, "sparse.qcow2")
	if _, err := WriteFile(full, 8*mib, 3); err != nil {
		t.Fatal(err)
	}
	l, err := newLayout(3 << 30) // two refcount blocks, six L2 tables; the data is a hole in the file
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(sparse, l.metadata(), 0o600), os.Truncate(sparse, l.clusters()*clusterSize)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{full, sparse} {
		out, err := exec.Command(qemu, "check", "-f", "qcow2", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No errors were found") {
			t.Errorf("qemu-img check: %v\n%s", err, out)
		}
	}
}

// check reads the metadata as a hypervisor would, and counts the references to every cluster.
func check(t *testing.T, file []byte, virtualSize int64) {
	t.Helper()
	be32 := func(at int64) int64 { return int64(binary.BigEndian.Uint32(file[at:])) }
	be64 := func(at int64) int64 { return int64(binary.BigEndian.Uint64(file[at:])) }
	for _, field := range []struct {
		name      string
		got, want int64
	}{
		{"magic", be32(0), 0x514649fb},
		{"version", be32(4), 3},
		{"backing file offset", be64(8), 0},
		{"cluster bits", be32(20), clusterBits},
		{"virtual size", be64(24), virtualSize},
		{"encryption", be32(32), 0},
		{"L1 entries", be32(36), (virtualSize + l2Entries*clusterSize - 1) / (l2Entries * clusterSize)},
		{"snapshots", be32(60), 0},
		{"incompatible features", be64(72), 0},
		{"compatible features", be64(80), 0},
		{"autoclear features", be64(88), 0},
		{"refcount order", be32(96), 4},
		{"header length", be32(100), 104},
		{"end of header extensions", be64(104), 0},
	} {
		if field.got != field.want {
			t.Errorf("%s is %#x, want %#x", field.name, field.got, field.want)
		}
	}
	uses := map[int64]int{0: 1} // by cluster
	l1, tableClusters := be64(40), be32(56)
	for i := range (be32(36)*8 + clusterSize - 1) / clusterSize {
		uses[l1/clusterSize+i]++
	}
	for guest := range virtualSize / clusterSize {
		l2 := be64(l1+guest/l2Entries*8) &^ (-1 << 63)
		if guest%l2Entries == 0 {
			uses[l2/clusterSize]++
		}
		entry := uint64(be64(l2 + guest%l2Entries*8))
		if entry>>63 != 1 || entry&(clusterSize-1) != 0 {
			t.Fatalf("guest cluster %d: entry %#x is not copied and aligned", guest, entry)
		}
		uses[int64(entry&^(1<<63))/clusterSize]++
	}
	table := be64(48)
	for i := range tableClusters {
		uses[table/clusterSize+i]++
	}
	var counted int64
	for i := range tableClusters * clusterSize / 8 {
		block := be64(table + i*8)
		if block == 0 {
			continue
		}
		uses[block/clusterSize]++
		for j := range int64(refcountEntries) {
			if got := binary.BigEndian.Uint16(file[block+j*2:]); got == 1 {
				counted++
			} else if got != 0 {
				t.Fatalf("cluster %d is counted %d times", i*refcountEntries+j, got)
			}
		}
	}
	if counted != int64(len(uses)) {
		t.Errorf("%d clusters are counted, %d are used", counted, len(uses))
	}
	for cluster := range counted {
		if uses[cluster] != 1 {
			t.Fatalf("cluster %d of %d is used %d times", cluster, counted, uses[cluster])
		}
	}
}
