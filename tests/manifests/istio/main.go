// istio-files: Istio's own code at work on manifests, without a cluster.
//
//	istio-files check FILE…                 does Istio take them? (CRD schemas, Istio's own validation, Envoy's types)
//	istio-files inject [-values FILE] FILE…  what Istio's injection makes of the Deployments, as JSON, one a line
//	istio-files discover -listen ADDRESS FILE…
//	                                        istiod's discovery service, until its standard input ends
//
// Everything is done by the packages of istio.io/istio; what this leaves out is Kubernetes.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test/util/yml"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "istio-files: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say what to do: check, inject or discover")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	listen := flags.String("listen", "", "address of the discovery service")
	values := flags.String("values", "", "values for Istio's chart")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	// Standard output is for results.
	logging := log.DefaultOptions()
	logging.OutputPaths = []string{"stderr"}
	if err := log.Configure(logging); err != nil {
		return err
	}
	objects, err := read(flags.Args())
	if err != nil {
		return err
	}
	switch args[0] {
	case "check":
		return check(objects)
	case "inject":
		return injected(objects, *values)
	case "discover":
		return discover(objects, *listen)
	default:
		return fmt.Errorf("unknown %q", args[0])
	}
}

// object is one document of a file.
type object struct {
	*unstructured.Unstructured
	file string
	text string
}

func (o object) String() string {
	return fmt.Sprintf("%s: %s %s", o.file, o.GetKind(), o.GetName())
}

// isIstio tells Istio's own resources from those of Kubernetes.
func (o object) isIstio() bool {
	return strings.Contains(o.GetAPIVersion(), "istio.io/")
}

func read(files []string) ([]object, error) {
	var objects []object
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, text := range yml.SplitString(string(content)) {
			// A field that stands there twice is an error, too.
			fields := map[string]any{}
			if err := yaml.UnmarshalStrict([]byte(text), &fields); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if len(fields) == 0 {
				continue
			}
			// Once more as Kubernetes does it, which tells whole numbers from others.
			parsed := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(text), parsed); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			objects = append(objects, object{parsed, file, text})
		}
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("no objects in %d files", len(files))
	}
	return objects, nil
}
