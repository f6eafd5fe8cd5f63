// Prints what Envoy Gateway makes of manifests, in full: the resources with their status, the clusters, listeners and routes that it would send over xDS, and the
// Deployment and Service of the proxies.
//
//	inside MANIFESTS PLUGIN
//
// `egctl x translate` does the same, but has no cache of Wasm modules, so it refuses every EnvoyExtensionPolicy that has one, and does not show the
// pods. What is called here is internal to Envoy Gateway's module, so tests/manifests/setup.sh builds this file inside a copy of it, of which nothing else is changed.
//
// The image of the plugin comes from a registry that runs here: it stands in for registry.example.com.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"sort"
	"strings"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	imagetypes "github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gwapiv1 "sigs.k8s.io/gateway-api/apis/v1"

	egv1a1 "github.com/envoyproxy/gateway/api/v1alpha1"
	"github.com/envoyproxy/gateway/internal/gatewayapi"
	"github.com/envoyproxy/gateway/internal/gatewayapi/resource"
	"github.com/envoyproxy/gateway/internal/infrastructure/kubernetes/proxy"
	"github.com/envoyproxy/gateway/internal/ir"
	"github.com/envoyproxy/gateway/internal/logging"
	"github.com/envoyproxy/gateway/internal/wasm"
	"github.com/envoyproxy/gateway/internal/xds/translator"
)

const (
	// The registry and the image in the shipped files.
	exampleRegistry = "registry.example.com"
	image           = "envoy-wechat-token:0.1.0"
	// Where Envoy Gateway is installed.
	namespace = "envoy-gateway-system"
	dnsDomain = "cluster.local"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, manifests, plugin string) error {
	text, err := os.ReadFile(manifests)
	if err != nil {
		return err
	}
	host, stop, err := serveImage(plugin)
	if err != nil {
		return fmt.Errorf("the registry: %w", err)
	}
	defer stop()
	text = []byte(strings.ReplaceAll(string(text), exampleRegistry, host))
	resources, err := resource.LoadResourcesFromYAMLBytes(text, false, nil)
	if err != nil {
		return err
	}
	resources.Secrets = append(resources.Secrets, ownSecret())
	cacheDir, err := os.MkdirTemp("", "wasm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cacheDir)

	logger := logging.DefaultLogger(io.Discard, egv1a1.LogLevelInfo)
	gateway := &gatewayapi.Translator{
		GatewayControllerName:   string(resources.GatewayClass.Spec.ControllerName),
		GatewayClassName:        gwapiv1.ObjectName(resources.GatewayClass.Name),
		ControllerNamespace:     namespace,
		EndpointRoutingDisabled: true,
		EnvoyPatchPolicyEnabled: true,
		BackendEnabled:          true,
		WasmCache: wasm.NewHTTPServerWithFileCache(
			wasm.ServerOptions{Salt: []byte("a test's")}, wasm.CacheOptions{CacheDir: cacheDir}, namespace, logger),
		Logger: logger,
	}
	result, err := gateway.Translate(ctx, resources)
	if err != nil {
		return err
	}
	xds := map[string]any{}
	for key, xdsIR := range result.XdsIR {
		if xds[key], err = translate(ctx, xdsIR, logger); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	pods := map[string]any{}
	for key, infraIR := range result.InfraIR {
		if pods[key], err = render(ctx, infraIR); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"resources": result.Resources, "xds": xds, "infra": pods})
}

// The client certificate that the installation makes for the proxies, with which they fetch plugins from Envoy Gateway. Nobody connects here.
func ownSecret() *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "envoy", Namespace: namespace},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: []byte("none"), corev1.TLSPrivateKeyKey: []byte("none")},
	}
}

// What would be sent over xDS, by kind.
func translate(ctx context.Context, xdsIR *ir.Xds, logger logging.Logger) (map[string]any, error) {
	table, err := (&translator.Translator{ControllerNamespace: namespace, Logger: logger}).Translate(ctx, xdsIR)
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{
		"clusters":  resourcev3.ClusterType,
		"endpoints": resourcev3.EndpointType,
		"listeners": resourcev3.ListenerType,
		"routes":    resourcev3.RouteType,
		"secrets":   resourcev3.SecretType,
	}
	out := map[string]any{}
	for kind, url := range kinds {
		items := []json.RawMessage{}
		for _, item := range table.XdsResources[url] {
			encoded, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(item.(proto.Message))
			if err != nil {
				return nil, err
			}
			items = append(items, encoded)
		}
		// Their order is a map's.
		sort.Slice(items, func(a, b int) bool { return bytes.Compare(items[a], items[b]) < 0 })
		out[kind] = items
	}
	// Whether the patches fitted.
	out["patch_policies"] = table.EnvoyPatchPolicyStatuses
	return out, nil
}

// The proxies' Deployment and Service.
func render(ctx context.Context, infraIR *ir.Infra) (map[string]any, error) {
	configuration := egv1a1.DefaultEnvoyGateway()
	configuration.SetEnvoyGatewayDefaults()
	renderer, err := proxy.NewResourceRender(ctx, cluster{configuration}, infraIR)
	if err != nil {
		return nil, err
	}
	deployment, err := renderer.Deployment()
	if err != nil {
		return nil, err
	}
	service, err := renderer.Service()
	if err != nil {
		return nil, err
	}
	return map[string]any{"deployment": deployment, "service": service}, nil
}

// An installation of Envoy Gateway as it is without settings.
type cluster struct{ configuration *egv1a1.EnvoyGateway }

func (c cluster) GetControllerNamespace() string        { return namespace }
func (c cluster) GetDNSDomain() string                  { return dnsDomain }
func (c cluster) GetEnvoyGateway() *egv1a1.EnvoyGateway { return c.configuration }
func (c cluster) GetResourceNamespace(*ir.Infra) string { return namespace }
func (c cluster) GetOwnerReferenceUID(context.Context, *ir.Infra) (map[string]types.UID, error) {
	return map[string]types.UID{resource.KindGatewayClass: "a-uid"}, nil
}

// A registry that has the plugin's image, as the README says how to make it: nothing but plugin.wasm.
func serveImage(plugin string) (string, func(), error) {
	code, err := os.ReadFile(plugin)
	if err != nil {
		return "", nil, err
	}
	var layer bytes.Buffer
	compressed := gzip.NewWriter(&layer)
	archive := tar.NewWriter(compressed)
	if err := archive.WriteHeader(&tar.Header{Name: "plugin.wasm", Mode: 0o644, Size: int64(len(code))}); err != nil {
		return "", nil, err
	}
	if _, err := archive.Write(code); err != nil {
		return "", nil, err
	}
	if err := archive.Close(); err != nil {
		return "", nil, err
	}
	if err := compressed.Close(); err != nil {
		return "", nil, err
	}
	built, err := mutate.AppendLayers(empty.Image, static.NewLayer(layer.Bytes(), imagetypes.DockerLayer))
	if err != nil {
		return "", nil, err
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	host := strings.TrimPrefix(server.URL, "http://")
	reference, err := name.ParseReference(host + "/" + image)
	if err == nil {
		err = remote.Write(reference, built)
	}
	if err != nil {
		server.Close()
		return "", nil, err
	}
	return host, server.Close, nil
}
