package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"istio.io/istio/manifests"
	kube "istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pkg/config/crd"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	_ "istio.io/istio/pkg/config/xds" // Envoy's types, for what stands in the bootstrap
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// crds is where Istio's module keeps the schemas of its resources.
const crds = "charts/base/files/crd-all.gen.yaml"

// overrideKey is what Istio's injection calls the bootstrap in its ConfigMap.
const overrideKey = "custom_bootstrap.json"

// check refuses what is wrong and every field that is not known: in Istio's and Kubernetes's resources, in the patches
// of EnvoyFilters, and in bootstraps, whose unknown fields Istio has Envoy ignore.
func check(objects []object) error {
	validator, err := schemas()
	if err != nil {
		return err
	}
	var failed error
	for _, o := range objects {
		if o.isIstio() {
			err = errors.Join(validator.ValidateCustomResource(o.Unstructured), ownValidation(o))
		} else {
			err = kubernetes(o)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%v: %w", o, err))
			continue
		}
		fmt.Printf("ok %v\n", o)
	}
	return failed
}

func schemas() (*crd.Validator, error) {
	content, err := manifests.FS.ReadFile(crds)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "crds-*.yaml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(content); err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	return crd.NewValidatorFromFiles(file.Name())
}

// ownValidation is what istiod's webhook does. Its warnings tell of unknown fields in an EnvoyFilter's patches, so they count.
func ownValidation(o object) error {
	configs, others, err := kube.ParseInputs(o.text)
	if err != nil {
		return err
	}
	if len(others) > 0 || len(configs) != 1 {
		return fmt.Errorf("Istio does not know %s", o.GroupVersionKind())
	}
	gvk := o.GroupVersionKind()
	schema, found := collections.PilotGatewayAPI().FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&gvk))
	if !found {
		return fmt.Errorf("Istio does not know %s", gvk)
	}
	warning, err := schema.ValidateConfig(configs[0])
	if err != nil {
		return err
	}
	return errors.Join(each(warning)...)
}

// each is every warning, but for the one that all EnvoyFilters get: that they depend on Envoy's insides.
func each(warning error) []error {
	if warning == nil {
		return nil
	}
	all := []error{warning}
	if many, isMany := warning.(interface{ WrappedErrors() []error }); isMany {
		all = many.WrappedErrors()
	}
	var warnings []error
	for _, one := range all {
		if !strings.Contains(one.Error(), "exposes internal implementation details") {
			warnings = append(warnings, fmt.Errorf("warning: %w", one))
		}
	}
	return warnings
}

func kubernetes(o object) error {
	codecs := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict)
	decoded, _, err := codecs.UniversalDeserializer().Decode([]byte(o.text), nil, nil)
	if err != nil {
		return err
	}
	config, isConfig := decoded.(*corev1.ConfigMap)
	if !isConfig {
		return nil
	}
	text, isBootstrap := config.Data[overrideKey]
	if !isBootstrap {
		return nil
	}
	// As pilot-agent does before it hands it to Envoy.
	json, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return err
	}
	return protojson.Unmarshal(json, &bootstrap.Bootstrap{})
}
