// Answers questions about scheduling rules with Kubernetes' own libraries: one JSON object per line in, one out.
package main

import (
	"context"
	"fmt"
	"math/big"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	resourcehelper "k8s.io/component-helpers/resource"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

type question struct {
	Kind     string                `json:"kind"`
	Text     string                `json:"text"`
	Pod      *corev1.Pod           `json:"pod"`
	Node     *corev1.Node          `json:"node"`
	Selector *metav1.LabelSelector `json:"selector"`
	Labels   map[string]string     `json:"labels"`
	Fleet    *fleet                `json:"fleet"`
	Device   *selectable           `json:"device"`
	Devices  *allocation           `json:"devices"`
	Timed    *timedAllocations     `json:"timed"`
}

func main() {
	filters, err := newFilters(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	answerLines(func(q question) answer { return reply(q, filters) })
}

func reply(q question, f *filters) answer {
	switch q.Kind {
	case "quantity":
		return readQuantity(q.Text)
	case "requests":
		return sumRequests(q.Pod)
	case "nodeAffinity":
		// The scheduler takes a malformed term as unmatched and drops the error.
		matches, _ := nodeaffinity.GetRequiredNodeAffinity(q.Pod).Match(q.Node)
		return answer{"matches": matches}
	case "taints":
		return findTaint(q.Pod, q.Node)
	case "labelSelector":
		selector, err := metav1.LabelSelectorAsSelector(q.Selector)
		return answer{"matches": err == nil && selector.Matches(labels.Set(q.Labels))}
	case "create":
		return createPod(q.Pod)
	case "selector":
		return selects(q.Text, *q.Device)
	case "devices":
		return allocateDevices(context.Background(), *q.Devices)
	case "timedDevices":
		return timeDevices(context.Background(), *q.Timed)
	case "fleet":
		return askFleet(context.Background(), f, q.Fleet)
	default:
		return answer{"error": "unknown kind " + q.Kind}
	}
}

func readQuantity(text string) answer {
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return answer{"error": err.Error()}
	}
	milli, whole := quantity.MilliValue(), quantity.Value()
	dec := quantity.AsDec()
	nano := new(big.Int).Set(dec.UnscaledBig())
	shift := int64(9) - int64(dec.Scale())
	factor := new(big.Int).Exp(big.NewInt(10), new(big.Int).Abs(big.NewInt(shift)), nil)
	if shift >= 0 {
		nano.Mul(nano, factor)
	} else {
		nano.Quo(nano, factor)
	}
	return answer{"nano": nano.String(), "milli": fmt.Sprint(milli), "whole": fmt.Sprint(whole)}
}

// As PodInfo.CalculateResource of kube-scheduler 1.37 with default feature gates.
func sumRequests(pod *corev1.Pod) answer {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		UseStatusResources: true,
		InPlacePodLevelResourcesVerticalScalingEnabled: true,
	})
	amounts := map[string]int64{}
	for name, quantity := range requests {
		amount := quantity.Value()
		if name == corev1.ResourceCPU {
			amount = quantity.MilliValue()
		}
		if amount != 0 {
			amounts[string(name)] = amount
		}
	}
	return answer{"requests": amounts}
}

func findTaint(pod *corev1.Pod, node *corev1.Node) answer {
	keepsOff := func(taint *corev1.Taint) bool {
		return taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
	}
	taint, found := schedulinghelper.FindMatchingUntoleratedTaint(
		klog.Logger{}, node.Spec.Taints, pod.Spec.Tolerations, keepsOff, true)
	if !found {
		return answer{"taint": nil}
	}
	return answer{"taint": fmt.Sprintf("%s=%s:%s", taint.Key, taint.Value, taint.Effect)}
}
