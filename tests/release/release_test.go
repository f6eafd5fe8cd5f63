// Package release looks at dist/release with readers that others wrote: what they accept, a user's tools accept. `make release` runs it.
package release

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where the release is, from the environment.
func file(t *testing.T, name string) string {
	t.Helper()
	folder := os.Getenv("RELEASE_DIR")
	if folder == "" {
		t.Fatal("RELEASE_DIR is not set: run 'make release'")
	}
	return filepath.Join(folder, name)
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(file(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

func TestEveryFileIsInTheSumsAndAsTheySay(t *testing.T) {
	sums := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(read(t, "SHA256SUMS")))
	for lines.Scan() {
		digest, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			t.Fatalf("not a line of sha256sum: %q", lines.Text())
		}
		sums[name] = digest
	}
	entries, err := os.ReadDir(file(t, "."))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() || entry.Name() == "SHA256SUMS" {
			continue
		}
		if digest := sum(read(t, entry.Name())); digest != sums[entry.Name()] {
			t.Errorf("%s has %s, the sums say %q", entry.Name(), digest, sums[entry.Name()])
		}
		delete(sums, entry.Name())
	}
	for name := range sums {
		t.Errorf("%s is in the sums only", name)
	}
}

func TestTheLicencesNameTheCratesInTheWasmAndNoOthers(t *testing.T) {
	text := string(read(t, "THIRD-PARTY-LICENSES.txt"))
	for _, crate := range []string{"serde ", "serde_core ", "serde_json ", "log ", "itoa ", "memchr ", "wasi-libc"} {
		if !strings.Contains(text, crate) {
			t.Errorf("%s is missing", crate)
		}
	}
	for _, crate := range []string{"serde_derive ", "syn ", "tokio ", "hyper "} {
		if strings.Contains(text, crate) {
			t.Errorf("%s is not in the .wasm", crate)
		}
	}
	for _, phrase := range []string{"Permission is hereby granted", "Copyright"} {
		if !strings.Contains(text, phrase) {
			t.Errorf("no licence text: %q is missing", phrase)
		}
	}
}
