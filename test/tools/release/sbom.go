package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// bill writes the software bill of materials of a program beside it, as SPDX 2.3: the modules that Go says it linked, and Go.
func (b *builder) bill(binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("read what %s is made of: %w", binary, err)
	}
	name := filepath.Base(binary)
	main := modulePackage("Package-main", info.Main.Path, b.version)
	document := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: fmt.Sprintf("https://github.com/cloudimage-dev/cloudimage-operator/releases/download/%s/%s.spdx.json#%s", b.version, name, b.source.revision),
		CreationInfo: &spdx.CreationInfo{
			Created:  b.source.created.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "cloudimage-operator-release"}},
		},
		Packages:      []*spdx.Package{main, modulePackage("Package-go", "stdlib", strings.TrimPrefix(info.GoVersion, "go"))},
		Relationships: []*spdx.Relationship{relate("DOCUMENT", "DESCRIBES", "Package-main"), relate("Package-main", "DEPENDS_ON", "Package-go")},
	}
	for i, module := range info.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		id := fmt.Sprintf("Package-module-%d", i)
		document.Packages = append(document.Packages, modulePackage(id, module.Path, module.Version))
		document.Relationships = append(document.Relationships, relate("Package-main", "DEPENDS_ON", id))
	}
	var out bytes.Buffer
	if err := spdxjson.Write(document, &out, spdxjson.Indent("  ")); err != nil {
		return fmt.Errorf("write the bill of materials of %s: %w", name, err)
	}
	return os.WriteFile(binary+".spdx.json", append(out.Bytes(), '\n'), 0o644)
}

// modulePackage describes a Go module; scanners find known holes in it by the package URL.
func modulePackage(id, path, version string) *spdx.Package {
	return &v2_3.Package{
		PackageName: path, PackageSPDXIdentifier: common.ElementID(id), PackageVersion: version,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
		PackageExternalReferences: []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: "pkg:golang/" + path + "@" + version,
		}},
	}
}

func relate(from, kind, to string) *spdx.Relationship {
	return &spdx.Relationship{RefA: common.MakeDocElementID("", from), Relationship: kind, RefB: common.MakeDocElementID("", to)}
}
