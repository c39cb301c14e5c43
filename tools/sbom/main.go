// Command sbom writes the bill of materials of programs written in Go: an SPDX 2.3 document in JSON
// with every module that the programs contain, its licence, and the Go standard library. It takes
// the modules from the build information in the programs.
//
//	sbom -name wsecho -version 1.2.3 -modules .. linux/amd64=bin/wsecho >wsecho.spdx.json
//
// The document depends only on the programs, the modules and SOURCE_DATE_EPOCH.
package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdxlib"
)

func main() {
	name := flag.String("name", "", "`name` of the document and prefix of its namespace")
	version := flag.String("version", "", "`version` of the programs")
	modules := flag.String("modules", ".", "`directory` of the module that the programs are built from")
	flag.Parse()
	if err := run(*name, *version, *modules, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(name, version, modules string, programs []string) error {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	directories, err := moduleDirectories(modules)
	if err != nil {
		return err
	}
	d := newDocument(name, time.Unix(seconds, 0))
	hash := sha256.New()
	for _, p := range programs {
		label, path, _ := strings.Cut(p, "=")
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		hash.Write(sum[:])
		if err := d.addProgram(filepath.Base(path), version, label, sum[:], info, directories); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	d.DocumentNamespace = fmt.Sprintf("https://spdx.org/spdxdocs/%s-%s-%x", name, version, hash.Sum(nil)[:16])
	if err := spdxlib.ValidateDocument(&d.Document); err != nil {
		return err
	}
	return spdxjson.Write(&d.Document, os.Stdout, spdxjson.Indent("  "))
}

// moduleDirectories returns the directories of the modules in the build list of a module, by path.
func moduleDirectories(main string) (map[string]string, error) {
	cmd := exec.Command("go", "list", "-m", "-json", "all")
	cmd.Dir = main
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	all := map[string]string{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); decoder.More(); {
		var m struct{ Path, Dir string }
		if err := decoder.Decode(&m); err != nil {
			return nil, err
		}
		all[m.Path] = m.Dir
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	all["std"] = strings.TrimSpace(string(goroot))
	return all, nil
}

// A document is a bill of materials that is being written.
type document struct {
	spdx.Document
	seen map[common.ElementID]bool
}

func newDocument(name string, created time.Time) *document {
	return &document{
		Document: spdx.Document{
			SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
			CreationInfo: &spdx.CreationInfo{
				Created:  created.UTC().Format(time.RFC3339),
				Creators: []common.Creator{{CreatorType: "Tool", Creator: "wsecho-sbom"}},
			},
		},
		seen: map[common.ElementID]bool{},
	}
}

// addProgram adds a program and what it contains.
func (d *document) addProgram(name, version, label string, sum []byte, info *debug.BuildInfo, directories map[string]string) error {
	id := identifier("Program", name+"-"+label)
	licence, err := licenceIn(directories[info.Main.Path])
	if err != nil {
		return err
	}
	d.add(id, &spdx.Package{
		PackageName: name, PackageVersion: version, PackageComment: label, PrimaryPackagePurpose: "APPLICATION",
		PackageLicenseDeclared: licence, PackageLicenseConcluded: licence,
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: fmt.Sprintf("%x", sum)}},
	})
	d.relate("DOCUMENT", id, common.TypeRelationshipDescribe)
	dependencies := append([]*debug.Module{{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...)
	for _, m := range dependencies {
		if m.Replace != nil {
			m = m.Replace
		}
		licence, err := licenceIn(directories[m.Path])
		if err != nil {
			return fmt.Errorf("%s: %w", m.Path, err)
		}
		module := identifier("Module", m.Path+"-"+m.Version)
		d.add(module, &spdx.Package{
			PackageName: m.Path, PackageVersion: m.Version, PrimaryPackagePurpose: "LIBRARY",
			PackageLicenseDeclared: licence, PackageLicenseConcluded: licence,
			PackageExternalReferences: []*spdx.PackageExternalReference{{
				Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + m.Path + "@" + m.Version,
			}},
		})
		d.relate(id, module, common.TypeRelationshipContains)
	}
	return nil
}

// add adds a package, unless it is there already.
func (d *document) add(id common.ElementID, p *spdx.Package) {
	if d.seen[id] {
		return
	}
	d.seen[id] = true
	p.PackageSPDXIdentifier = id
	p.PackageDownloadLocation = "NOASSERTION"
	p.PackageCopyrightText = "NOASSERTION"
	d.Packages = append(d.Packages, p)
}

func (d *document) relate(from, to common.ElementID, how string) {
	d.Relationships = append(d.Relationships, &spdx.Relationship{
		RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)), Relationship: how,
	})
}

// identifier returns a valid SPDX identifier: letters, digits, dots and hyphens.
func identifier(kind, name string) common.ElementID {
	return common.ElementID(kind + "-" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, name))
}

// licences are texts that occur in one licence only, by SPDX identifier. The first that fits wins.
var licences = []struct{ id, text string }{
	{"FTL OR GPL-2.0-or-later", "subject to your choice of exactly one of the following two licenses: * The FreeType License"},
	{"Apache-2.0", "Apache License Version 2.0"},
	{"MPL-2.0", "Mozilla Public License Version 2.0"},
	{"BSD-3-Clause", "Neither the name of"},
	{"BSD-2-Clause", "Redistributions in binary form must reproduce"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software"},
	{"MIT", "Permission is hereby granted, free of charge"},
}

// licenceIn returns the SPDX identifier of the licence of the module in a directory. It returns an
// error for a licence that it does not know, since someone must then read it.
func licenceIn(directory string) (string, error) {
	files, err := filepath.Glob(filepath.Join(directory, "LICEN[CS]E*"))
	if err != nil || directory == "" || len(files) == 0 {
		return "", fmt.Errorf("no licence in %q: %w", directory, cmp.Or(err, os.ErrNotExist))
	}
	slices.Sort(files)
	content, err := os.ReadFile(files[0])
	if err != nil {
		return "", err
	}
	text := strings.Join(strings.Fields(string(content)), " ")
	for _, l := range licences {
		if strings.Contains(text, l.text) {
			return l.id, nil
		}
	}
	return "", fmt.Errorf("%s is a licence that this program does not know", files[0])
}
