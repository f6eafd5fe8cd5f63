package release

import (
	"bytes"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const sbom = "wechat-token.cdx.json"

func bom(t *testing.T) *cyclonedx.BOM {
	t.Helper()
	decoded := new(cyclonedx.BOM)
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(read(t, sbom)), cyclonedx.BOMFileFormatJSON).Decode(decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

// A folder with schemas, which name each other by the addresses at which they are published.
type schemas string

func (folder schemas) Load(address string) (any, error) {
	name := path.Base(address)
	if name == "jsf-0.82.schema.json" {
		name = "jsf-0.82.schemax.json" // so misspelt in the module
	}
	data, err := os.ReadFile(filepath.Join(string(folder), name))
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(data))
}

// CycloneDX's own schema, which comes with its Go module.
func TestTheSbomKeepsTheSchemaOfCycloneDX(t *testing.T) {
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(schemas(filepath.Join(strings.TrimSpace(string(folder)), "schema")))
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.5.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(t, sbom)))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
}

func TestTheSbomIsOfThisWasm(t *testing.T) {
	component := bom(t).Metadata.Component
	if component.Name != "envoy-wechat-token" || component.Hashes == nil {
		t.Fatalf("%+v", component)
	}
	if got, want := (*component.Hashes)[0].Value, sum(read(t, "wechat-token.wasm")); got != want {
		t.Errorf("the SBOM is of %s, wechat-token.wasm is %s", got, want)
	}
}

func TestTheSbomTellsWhatIsInTheWasmFromWhatOnlyTheCompilerRuns(t *testing.T) {
	scopes := map[string]cyclonedx.Scope{}
	for _, component := range *bom(t).Components {
		scopes[component.Name] = component.Scope
	}
	for crate, want := range map[string]cyclonedx.Scope{
		"serde": "required", "serde_json": "required", "log": "required", "serde_derive": "excluded", "syn": "excluded", "tokio": "",
	} {
		if scopes[crate] != want {
			t.Errorf("%s is %q, not %q", crate, scopes[crate], want)
		}
	}
}

func TestNoFileNamesTheMachineThatMadeIt(t *testing.T) {
	for _, name := range []string{sbom, "THIRD-PARTY-LICENSES.txt", "BUILD.txt", "wechat-token.wasm"} {
		for _, place := range []string{"/root/", "/home/", "/tmp/", "/Users/", ".cargo/registry"} {
			if bytes.Contains(read(t, name), []byte(place)) {
				t.Errorf("%s holds %s", name, place)
			}
		}
	}
}
