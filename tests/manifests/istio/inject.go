package main

import (
	"encoding/json"
	"fmt"
	"os"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/operator/pkg/render"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/kube/inject"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// injected prints each Deployment with what Istio's injection adds, configured as Istio's chart does it, with these values.
func injected(objects []object, valuesFile string) error {
	templates, values, meshConfig, err := settings(valuesFile)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		deployment, err := inject.FromRawToObject([]byte(o.text))
		if err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
		warn := func(text string) { fmt.Fprintln(os.Stderr, text) }
		result, err := inject.IntoObject(nil, templates, values, "", meshConfig, deployment, warn)
		if err != nil {
			return fmt.Errorf("%v: %w", o, err)
		}
		text, err := json.Marshal(result)
		if err != nil {
			return err
		}
		fmt.Println(string(text))
	}
	return nil
}

// settings renders Istio's chart and takes from it what its injection webhook reads.
func settings(valuesFile string) (templates inject.Templates, values inject.ValuesConfig, meshConfig *meshconfig.MeshConfig, err error) {
	var inputs []string
	if valuesFile != "" {
		file, err := asOperator(valuesFile)
		if err != nil {
			return nil, values, nil, err
		}
		defer os.Remove(file)
		inputs = append(inputs, file)
	}
	sets, _, err := render.GenerateManifest(inputs, nil, false, nil, nil)
	if err != nil {
		return nil, values, nil, err
	}
	found := 0
	for _, set := range sets {
		for _, manifest := range set.Manifests {
			if manifest.GetKind() != "ConfigMap" {
				continue
			}
			config := &corev1.ConfigMap{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(manifest.Object, config); err != nil {
				return nil, values, nil, err
			}
			switch config.Name {
			case "istio-sidecar-injector":
				parsed, err := inject.UnmarshalConfig([]byte(config.Data["config"]))
				if err != nil {
					return nil, values, nil, err
				}
				templates = parsed.Templates
				if values, err = inject.NewValuesConfig(config.Data["values"]); err != nil {
					return nil, values, nil, err
				}
				found++
			case "istio":
				if meshConfig, err = mesh.ApplyMeshConfigDefaults(config.Data["mesh"]); err != nil {
					return nil, values, nil, err
				}
				found++
			}
		}
	}
	if found != 2 {
		return nil, values, nil, fmt.Errorf("%d of 2 ConfigMaps in Istio's chart", found)
	}
	return templates, values, meshConfig, nil
}

// asOperator writes a chart's values in the form that the renderer reads.
func asOperator(valuesFile string) (string, error) {
	content, err := os.ReadFile(valuesFile)
	if err != nil {
		return "", err
	}
	values := map[string]any{}
	if err := yaml.UnmarshalStrict(content, &values); err != nil {
		return "", fmt.Errorf("%s: %w", valuesFile, err)
	}
	operator, err := yaml.Marshal(map[string]any{
		"apiVersion": "install.istio.io/v1alpha1",
		"kind":       "IstioOperator",
		"spec":       map[string]any{"values": values},
	})
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp("", "values-*.yaml")
	if err != nil {
		return "", err
	}
	defer file.Close()
	_, err = file.Write(operator)
	return file.Name(), err
}
