package release

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"istio.io/istio/pkg/wasm"
)

// The only image of the layout.
func image(t *testing.T) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(file(t, "image"))
	if err != nil {
		t.Fatal(err)
	}
	// Digests and sizes of all blobs, media types, and the layer's uncompressed digest.
	if err := validate.Index(index); err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d images", len(manifest.Manifests))
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func digest(t *testing.T, image v1.Image) string {
	t.Helper()
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestTheLayoutHoldsOneValidImageOfOneLayer(t *testing.T) {
	manifest, err := image(t).Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != types.OCIManifestSchema1 || manifest.Config.MediaType != types.OCIConfigJSON {
		t.Errorf("media types %s and %s", manifest.MediaType, manifest.Config.MediaType)
	}
	if len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != types.OCILayer {
		t.Errorf("layers: %+v", manifest.Layers)
	}
}

func TestTheTarIsTheSameImageForReadersOfDockerSave(t *testing.T) {
	saved, err := tarball.ImageFromPath(file(t, "wechat-token-image.tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(saved); err != nil {
		t.Fatal(err)
	}
	want, err := image(t).ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	got, err := saved.ConfigName()
	if err != nil || got != want {
		t.Errorf("the tar has configuration %s, the layout %s (%v)", got, want, err)
	}
}

// The code that runs in Istio's agent for a WasmPlugin with an oci:// URL. Envoy Gateway's EnvoyExtensionPolicy has a copy of it.
func TestIstioFetchesThePluginFromARegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://") + "/owner/envoy-wechat-token:1"
	reference, err := name.ParseReference(address)
	if err != nil {
		t.Fatal(err)
	}
	pushed := image(t)
	if err := remote.Write(reference, pushed); err != nil {
		t.Fatal(err)
	}
	fetch, fetched, err := wasm.NewImageFetcher(context.Background(), wasm.ImageFetcherOption{}).PrepareFetch(address)
	if err != nil {
		t.Fatal(err)
	}
	if "sha256:"+fetched != digest(t, pushed) {
		t.Errorf("fetched %s, pushed %s", fetched, digest(t, pushed))
	}
	plugin, err := fetch()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plugin, read(t, "wechat-token.wasm")) {
		t.Errorf("%d bytes that are not wechat-token.wasm", len(plugin))
	}
}
