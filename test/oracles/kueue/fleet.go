package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kueue "sigs.k8s.io/kueue/apis/kueue/v1beta2"
	schdcache "sigs.k8s.io/kueue/pkg/cache/scheduler"
	"sigs.k8s.io/kueue/pkg/resources"
	utiltesting "sigs.k8s.io/kueue/pkg/util/testing"
	"sigs.k8s.io/kueue/pkg/workload"
)

const (
	name    = "tas"
	leader  = kueue.PodSetReference("leader")
	workers = kueue.PodSetReference("workers")
	// manyNodes is from where on the time is of interest.
	manyNodes = 100
)

var (
	grouped = "group"
	// empty is an API server without objects. It takes longer to make than a fleet.
	empty = utiltesting.NewClientBuilder().Build()
)

// fleet is one snapshot of Kueue's cache, which lasts as long as a scheduling cycle does in Kueue.
type fleet struct {
	queue *schdcache.ClusterQueueSnapshot
	taken map[string]workload.Usage
}

func newFleet(ctx context.Context, levels []string, nodes []node) (*fleet, error) {
	log := logr.Discard()
	cache := schdcache.New(empty)
	cache.AddOrUpdateTopology(log, topologyOf(levels))
	topology := kueue.TopologyReference(name)
	cache.AddOrUpdateResourceFlavor(log, &kueue.ResourceFlavor{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       kueue.ResourceFlavorSpec{TopologyName: &topology},
	})
	if err := cache.AddClusterQueue(ctx, clusterQueue()); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		cache.TASCache().SyncNode(nodeOf(n))
		for i, used := range n.Used {
			cache.TASCache().Update(strangerOn(n.Name, i, used), log)
		}
	}
	snapshot, err := cache.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	queue := snapshot.ClusterQueue(name)
	if queue == nil {
		return nil, fmt.Errorf("the ClusterQueue is not active")
	}
	if len(nodes) >= manyNodes {
		// What was read is garbage by now, and must not be collected while places are looked for.
		runtime.GC()
	}
	return &fleet{queue: queue, taken: map[string]workload.Usage{}}, nil
}

func (f *fleet) find(ctx context.Context, group string, a ask, take bool) (answer, error) {
	podSets := podSetsOf(a)
	options := []schdcache.FindTopologyAssignmentsOption{}
	if a.Workload != "" {
		remembered := &kueue.Workload{ObjectMeta: metav1.ObjectMeta{UID: types.UID(a.Workload)}}
		options = append(options, schdcache.WithWorkload(remembered))
	}
	started := time.Now()
	found := f.queue.FindTopologyAssignmentsForWorkload(
		ctx, schdcache.WorkloadTASRequests{name: podSets}, options...)
	reply := answer{FindNs: time.Since(started).Nanoseconds()}
	if failure := found.Failure(); failure != nil {
		reply.Reason = failure.Reason
		return reply, nil
	}
	usage := workload.TASFlavorUsage{}
	for _, podSet := range slices.Backward(podSets) {
		assignment := found[podSet.PodSet.Name].TopologyAssignment
		if assignment == nil {
			return reply, fmt.Errorf("pod set %s has no assignment", podSet.PodSet.Name)
		}
		for _, domain := range assignment.Domains {
			for range domain.Count {
				reply.Nodes = append(reply.Nodes, domain.Values[len(domain.Values)-1])
			}
			usage = append(usage, workload.TopologyDomainRequests{
				Values: domain.Values, SinglePodRequests: podSet.SinglePodRequests, Count: domain.Count})
		}
	}
	if take {
		return f.take(group, workload.Usage{TAS: workload.TASUsage{name: usage}}, reply)
	}
	return reply, nil
}

func (f *fleet) take(group string, usage workload.Usage, reply answer) (answer, error) {
	if _, known := f.taken[group]; known {
		return reply, fmt.Errorf("group %q has its places already", group)
	}
	f.taken[group] = usage
	started := time.Now()
	f.queue.AddUsage(usage)
	reply.ApplyNs = time.Since(started).Nanoseconds()
	return reply, nil
}

// free does nothing for a group that was refused.
func (f *fleet) free(group string) (answer, error) {
	usage, known := f.taken[group]
	if !known {
		return answer{}, nil
	}
	delete(f.taken, group)
	started := time.Now()
	f.queue.RemoveUsage(usage)
	return answer{ApplyNs: time.Since(started).Nanoseconds()}, nil
}

// podSetsOf has the workers first; Kueue tells the leader by its smaller count.
func podSetsOf(a ask) schdcache.FlavorTASRequests {
	if a.Leader == nil {
		return schdcache.FlavorTASRequests{podSetOf(workers, a.Worker, a.Size, topologyRequestOf(a), nil)}
	}
	return schdcache.FlavorTASRequests{
		podSetOf(workers, a.Worker, a.Size-1, topologyRequestOf(a), &grouped),
		podSetOf(leader, *a.Leader, 1, topologyRequestOf(a), &grouped),
	}
}

func podSetOf(
	role kueue.PodSetReference, d demand, count int32, request *kueue.PodSetTopologyRequest, group *string,
) schdcache.TASPodSetRequests {
	spec := corev1.PodSpec{NodeSelector: d.NodeSelector, Tolerations: d.Tolerations}
	podSet := &kueue.PodSet{
		Name:            role,
		Count:           count,
		Template:        corev1.PodTemplateSpec{Spec: spec},
		TopologyRequest: request,
	}
	amounts := map[corev1.ResourceName]int64{}
	for resource, amount := range d.Requests {
		amounts[corev1.ResourceName(resource)] = amount
	}
	return schdcache.TASPodSetRequests{
		PodSet:            podSet,
		SinglePodRequests: resources.NewRequestsFromMap(amounts),
		Count:             count,
		Flavor:            name,
		PodSetGroupName:   group,
	}
}

func topologyRequestOf(a ask) *kueue.PodSetTopologyRequest {
	request := &kueue.PodSetTopologyRequest{}
	unconstrained := true
	switch {
	case a.Required != "":
		request.Required = &a.Required
	case a.Preferred != "":
		request.Preferred = &a.Preferred
	case a.Slice == nil:
		request.Unconstrained = &unconstrained
	}
	if a.Slice != nil {
		request.PodSetSliceRequiredTopology = &a.Slice.Level
		request.PodSetSliceSize = &a.Slice.Size
	}
	return request
}

func topologyOf(levels []string) *kueue.Topology {
	topology := &kueue.Topology{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, level := range append(levels, corev1.LabelHostname) {
		topology.Spec.Levels = append(topology.Spec.Levels, kueue.TopologyLevel{NodeLabel: level})
	}
	return topology
}

// clusterQueue has more quota than anybody uses, so that only topology decides.
func clusterQueue() *kueue.ClusterQueue {
	quota := kueue.ResourceQuota{Name: corev1.ResourceCPU, NominalQuota: resource.MustParse("1G")}
	return &kueue.ClusterQueue{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: kueue.ClusterQueueSpec{
			NamespaceSelector: &metav1.LabelSelector{},
			ResourceGroups: []kueue.ResourceGroup{{
				CoveredResources: []corev1.ResourceName{corev1.ResourceCPU},
				Flavors:          []kueue.FlavorQuotas{{Name: name, Resources: []kueue.ResourceQuota{quota}}},
			}},
		},
	}
}

func nodeOf(n node) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels},
		Spec:       corev1.NodeSpec{Taints: n.Taints, Unschedulable: n.Cordoned},
		Status: corev1.NodeStatus{
			Allocatable: listOf(n.Allocatable),
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func strangerOn(node string, index int, used map[string]int64) *corev1.Pod {
	container := corev1.Container{Name: "main", Resources: corev1.ResourceRequirements{Requests: listOf(used)}}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%d", node, index)},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{container}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func listOf(amounts map[string]int64) corev1.ResourceList {
	list := corev1.ResourceList{}
	for resourceName, amount := range amounts {
		if resourceName == string(corev1.ResourceCPU) {
			list[corev1.ResourceCPU] = *resource.NewMilliQuantity(amount, resource.DecimalSI)
			continue
		}
		list[corev1.ResourceName(resourceName)] = *resource.NewQuantity(amount, resource.DecimalSI)
	}
	return list
}
