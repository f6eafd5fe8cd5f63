package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A folder like the project's, with these two files and the script.
func project(t *testing.T, cargo, changelog string) string {
	t.Helper()
	script, err := os.ReadFile("../../tools/changelog.py")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{"Cargo.toml": cargo, "CHANGELOG.md": changelog, "tools/changelog.py": string(script)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(folder, "tools/changelog.py")
}

const cargo = "[package]\nname = \"p\"\nversion = \"1.2.3\"\n"

func TestATagThatIsNotTheVersionAndTheChangelogsIsRefused(t *testing.T) {
	good := "# Changelog\n\n## 1.2.3 - 2026-11-26\n\nThe notes.\n\n## 1.2.2 - 2026-10-01\n\nOlder.\n"
	for _, one := range []struct{ tag, changelog, says string }{
		{"v1.2.3", good, ""},
		{"1.2.3", good, "the tag is 1.2.3"},
		{"v1.2.4", good, "expected v1.2.3"},
		{"v1.2.3", strings.Replace(good, "2026-11-26", "unreleased", 1), "no date for 1.2.3"},
		{"v1.2.3", strings.Replace(good, "## 1.2.3", "## 1.2.30", 1), "no section"},
		{"v1.2.3", strings.Replace(good, "The notes.", "", 1), "says nothing"},
	} {
		out, err := exec.Command("python3", project(t, cargo, one.changelog), one.tag).CombinedOutput()
		text := strings.TrimSpace(string(out))
		if one.says == "" {
			if err != nil || text != "The notes." {
				t.Errorf("%+v: %s (%v)", one, text, err)
			}
		} else if err == nil || !strings.Contains(text, one.says) {
			t.Errorf("%+v: %s (%v)", one, text, err)
		}
	}
}
