package main

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
)

// Filters that look at one node and the pods on it, and those that look around as well.
var (
	nodeLocal  = []string{names.NodeName, names.NodeUnschedulable, names.TaintToleration, names.NodeAffinity, names.NodePorts, names.NodeResourcesFit}
	lookAround = []string{names.PodTopologySpread, names.InterPodAffinity}
	// A profile is not complete without them.
	unavoidable = []string{names.PrioritySort, names.DefaultBinder}
)

// kube-scheduler's filter plugins with their default configuration, over one fleet at a time.
type filters struct {
	snapshot  *cache.Snapshot
	informers informers.SharedInformerFactory
	local     framework.Framework
	all       framework.Framework
}

// Why a node refuses a pod; the zero value when it does not.
type refusal struct {
	Plugin  string   `json:"plugin"`
	Reasons []string `json:"reasons"`
}

func newFilters(ctx context.Context) (*filters, error) {
	// The framework counts without asking whether there is a counter.
	metrics.Register()
	f := &filters{
		snapshot:  cache.NewEmptySnapshot(),
		informers: informers.NewSharedInformerFactory(fake.NewClientset(), 0),
	}
	var err error
	if f.local, err = f.framework(ctx, nodeLocal); err != nil {
		return nil, err
	}
	f.all, err = f.framework(ctx, slices.Concat(nodeLocal, lookAround))
	return f, err
}

// The default profile with some of its plugins, in its order.
func (f *filters) framework(ctx context.Context, wanted []string) (framework.Framework, error) {
	defaults, err := latest.Default()
	if err != nil {
		return nil, err
	}
	profile := defaults.Profiles[0]
	enabled := profile.Plugins.MultiPoint.Enabled
	profile.Plugins = &config.Plugins{MultiPoint: config.PluginSet{Enabled: slices.DeleteFunc(enabled, func(plugin config.Plugin) bool {
		return !slices.Contains(wanted, plugin.Name) && !slices.Contains(unavoidable, plugin.Name)
	})}}
	profile.PluginConfig = slices.DeleteFunc(profile.PluginConfig, func(plugin config.PluginConfig) bool {
		return !slices.Contains(wanted, plugin.Name)
	})
	return runtime.NewFramework(ctx, plugins.NewInTreeRegistry(), &profile,
		runtime.WithSnapshotSharedLister(f.snapshot), runtime.WithInformerFactory(f.informers), runtime.WithParallelism(1))
}

// Plugins have kept the snapshot's address, so what is in it is exchanged.
func (f *filters) load(nodes []*corev1.Node, pods []*corev1.Pod, namespaces []*corev1.Namespace) error {
	*f.snapshot = *cache.NewSnapshot(pods, nodes)
	known := make([]any, len(namespaces))
	for i, namespace := range namespaces {
		known[i] = namespace
	}
	return f.informers.Core().V1().Namespaces().Informer().GetIndexer().Replace(known, "")
}

// The state of one scheduling cycle of one pod.
type cycle struct {
	framework framework.Framework
	state     fwk.CycleState
	pod       *corev1.Pod
	// Set when the pod was refused before any node was looked at.
	refused *refusal
	nodes   *fwk.PreFilterResult
}

func (f *filters) begin(ctx context.Context, with framework.Framework, pod *corev1.Pod) cycle {
	c := cycle{framework: with, state: framework.NewCycleState(), pod: pod}
	result, status, pluginsWithNodes := with.RunPreFilterPlugins(ctx, c.state, pod)
	if !status.IsSuccess() {
		plugin := status.Plugin()
		if plugin == "" && pluginsWithNodes.Len() > 0 {
			plugin = pluginsWithNodes.UnsortedList()[0]
		}
		c.refused = &refusal{Plugin: plugin, Reasons: status.Reasons()}
	}
	c.nodes = result
	return c
}

func (f *filters) ask(ctx context.Context, c cycle, nodeName string) *refusal {
	if c.refused != nil {
		return c.refused
	}
	node, err := f.snapshot.Get(nodeName)
	if err != nil {
		return &refusal{Reasons: []string{err.Error()}}
	}
	if status := c.framework.RunFilterPlugins(ctx, c.state, c.pod, node); !status.IsSuccess() {
		return &refusal{Plugin: status.Plugin(), Reasons: status.Reasons()}
	}
	if !c.nodes.AllNodes() && !c.nodes.NodeNames.Has(nodeName) {
		return &refusal{Plugin: names.NodeAffinity, Reasons: []string{"left out by PreFilter"}}
	}
	return nil
}

// Puts a pod onto a node; the function takes it away again. Last in, first out.
func (f *filters) assume(pod *corev1.Pod, nodeName string) (func() error, error) {
	placed := pod.DeepCopy()
	placed.Spec.NodeName = nodeName
	info, err := framework.NewPodInfo(placed)
	if err != nil {
		return nil, err
	}
	if err := f.snapshot.AssumePod(info); err != nil {
		return nil, err
	}
	return func() error { return f.snapshot.ForgetPod(klog.Background(), placed) }, nil
}

func (r *refusal) String() string {
	return fmt.Sprintf("%s: %v", r.Plugin, r.Reasons)
}
