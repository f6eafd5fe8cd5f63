package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/test"
)

// discover serves what istiod serves, made of these objects, until standard input ends.
func discover(objects []object, address string) error {
	var istio, kubernetes []string
	for _, o := range objects {
		switch {
		case o.isIstio():
			istio = append(istio, o.text)
		case isService(o.GetKind()):
			kubernetes = append(kubernetes, o.text)
		}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return test.Wrap(func(t test.Failer) {
		xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
			ConfigString:           strings.Join(istio, "\n---\n"),
			KubernetesObjectString: strings.Join(kubernetes, "\n---\n"),
			MeshConfig:             meshConfig(),
			ListenerBuilder:        func() (net.Listener, error) { return listener, nil },
		})
		fmt.Println("ready on", listener.Addr())
		_, _ = io.Copy(io.Discard, os.Stdin)
	})
}

// isService tells what discovery looks at; the rest is for Kubernetes alone.
func isService(kind string) bool {
	switch kind {
	case "Namespace", "Service", "EndpointSlice", "Pod", "ServiceAccount":
		return true
	}
	return false
}

// meshConfig is Istio's default but for the access log, which tests read, and for what only Istio's own Envoy has: no telemetry by default.
func meshConfig() *meshconfig.MeshConfig {
	config := mesh.DefaultMeshConfig()
	config.AccessLogFile = "/dev/stdout"
	config.DefaultProviders = &meshconfig.MeshConfig_DefaultProviders{}
	config.DnsRefreshRate = durationpb.New(5e9)
	return config
}
