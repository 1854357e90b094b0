package main

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	podregistry "k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/plugin/pkg/admission/defaulttolerationseconds"
)

// Makes of a manifest what the API server stores: defaults, the admission plugin that gives every pod its tolerations,
// label keys merged into selectors; or says why it would refuse it.
func createPod(manifest *corev1.Pod) answer {
	versioned := manifest.DeepCopy()
	legacyscheme.Scheme.Default(versioned)
	pod := &core.Pod{}
	if err := legacyscheme.Scheme.Convert(versioned, pod, nil); err != nil {
		return answer{"error": err.Error()}
	}
	if err := addTolerations(pod); err != nil {
		return answer{"error": err.Error()}
	}
	podregistry.Strategy.PrepareForCreate(context.Background(), pod)
	if errs := podregistry.Strategy.Validate(context.Background(), pod); len(errs) > 0 {
		return answer{"error": errs.ToAggregate().Error()}
	}
	stored := &corev1.Pod{}
	if err := legacyscheme.Scheme.Convert(pod, stored, nil); err != nil {
		return answer{"error": err.Error()}
	}
	stored.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	return answer{"pod": stored}
}

func addTolerations(pod *core.Pod) error {
	attributes := admission.NewAttributesRecord(pod, nil, core.Kind("Pod").WithVersion("version"), pod.Namespace, pod.Name,
		core.Resource("pods").WithVersion("version"), "", admission.Create, &metav1.CreateOptions{}, false, nil)
	plugin := defaulttolerationseconds.NewDefaultTolerationSeconds()
	plugin.InspectFeatureGates(feature.DefaultFeatureGate)
	return plugin.Admit(context.Background(), attributes, nil)
}
