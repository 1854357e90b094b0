package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// A fleet and a group of pods that is to have its nodes there.
type fleet struct {
	Nodes      []*corev1.Node      `json:"nodes"`
	Pods       []*corev1.Pod       `json:"pods"`
	Namespaces []*corev1.Namespace `json:"namespaces"`
	// The kinds of pods of the group, and how many there are of each.
	Kinds  []*corev1.Pod `json:"kinds"`
	Counts []int         `json:"counts"`
	// The planned pods without and with their pins, and the names of their nodes: asked one after the other.
	Members []*corev1.Pod `json:"members"`
	Pinned  []*corev1.Pod `json:"pinned"`
	Seats   []string      `json:"seats"`
	// Nodes that the whole group may use together; each set is searched for a placement.
	Domains [][]string `json:"domains"`
	// Filter calls of one search.
	Limit int `json:"limit"`
}

// How many copies of a pod a node takes, and what it says to the next.
type copies struct {
	Count int      `json:"count"`
	Then  *refusal `json:"then"`
}

func askFleet(ctx context.Context, f *filters, q *fleet) answer {
	if err := f.load(q.Nodes, q.Pods, q.Namespaces); err != nil {
		return answer{"error": err.Error()}
	}
	a := answer{}
	var err error
	if a["copies"], err = countCopies(ctx, f, q); err != nil {
		return answer{"error": err.Error()}
	}
	if len(q.Seats) > 0 {
		a["loose"] = loosePods(q)
		if a["written"], err = replay(ctx, f, q.Members, q.Seats); err != nil {
			return answer{"error": err.Error()}
		}
		if a["pinned"], err = replay(ctx, f, q.Pinned, q.Seats); err != nil {
			return answer{"error": err.Error()}
		}
	}
	found := make([]any, len(q.Domains))
	for i, domain := range q.Domains {
		if found[i], err = place(ctx, f, q, domain); err != nil {
			return answer{"error": err.Error()}
		}
	}
	a["domains"] = found
	return a
}

// By kind and node, by the rules that look at one node only.
func countCopies(ctx context.Context, f *filters, q *fleet) ([][]copies, error) {
	counted := make([][]copies, len(q.Kinds))
	for i, pod := range q.Kinds {
		for _, node := range q.Nodes {
			found, err := copiesOn(ctx, f, pod, node.Name)
			if err != nil {
				return nil, err
			}
			counted[i] = append(counted[i], found)
		}
	}
	return counted, nil
}

func copiesOn(ctx context.Context, f *filters, pod *corev1.Pod, node string) (found copies, err error) {
	var forgets []func() error
	defer func() {
		for _, forget := range slices.Backward(forgets) {
			err = errors.Join(err, forget())
		}
	}()
	for {
		copied := numbered(pod, found.Count)
		if found.Then = f.ask(ctx, f.begin(ctx, f.local, copied), node); found.Then != nil {
			return found, nil
		}
		forget, err := f.assume(copied, node)
		if err != nil {
			return found, err
		}
		forgets = append(forgets, forget)
		found.Count++
	}
}

func numbered(pod *corev1.Pod, number int) *corev1.Pod {
	copied := pod.DeepCopy()
	copied.UID = types.UID(fmt.Sprintf("%s-%s-%d", pod.Namespace, pod.Name, number))
	copied.Name = fmt.Sprintf("%s-%d", pod.Name, number)
	return copied
}

// What came of giving pods their nodes.
type replayed struct {
	// Orders in which all of them got their nodes: as given, from last to first (those that wait for others later, in both),
	// or only some other one.
	Forward  bool `json:"forward"`
	Backward bool `json:"backward"`
	Any      bool `json:"any"`
	// Words of the nodes that refused, in the order as given.
	Refusals []string `json:"refusals"`
}

// Pods whose pin leaves them other nodes.
func loosePods(q *fleet) []string {
	var loose []string
	for i, pod := range q.Pinned {
		pin := nodeaffinity.GetRequiredNodeAffinity(pod)
		for _, node := range q.Nodes {
			if matches, _ := pin.Match(node); matches && node.Name != q.Seats[i] {
				loose = append(loose, pod.Name)
			}
		}
	}
	return loose
}

func replay(ctx context.Context, f *filters, pods []*corev1.Pod, nodes []string) (*replayed, error) {
	result := &replayed{}
	order := make([]int, len(pods))
	for i := range order {
		order[i] = i
	}
	var err error
	if result.Refusals, err = replayInTurn(ctx, f, pods, nodes, order); err != nil {
		return nil, err
	}
	result.Forward = len(result.Refusals) == 0
	slices.Reverse(order)
	refusals, err := replayInTurn(ctx, f, pods, nodes, order)
	if err != nil {
		return nil, err
	}
	result.Backward = len(refusals) == 0
	result.Any = result.Forward || result.Backward
	if !result.Any {
		result.Any, err = replayInAnyOrder(ctx, f, pods, nodes, 0, map[uint64]bool{})
	}
	return result, err
}

// Pods that are refused are asked again once others have got their nodes, as kube-scheduler does.
func replayInTurn(ctx context.Context, f *filters, pods []*corev1.Pod, nodes []string, order []int) (refusals []string, err error) {
	var forgets []func() error
	defer func() {
		for _, forget := range slices.Backward(forgets) {
			err = errors.Join(err, forget())
		}
	}()
	waiting := order
	for len(waiting) > 0 {
		var left []int
		refusals = nil
		for _, i := range waiting {
			if refused := f.ask(ctx, f.begin(ctx, f.all, pods[i]), nodes[i]); refused != nil {
				left = append(left, i)
				refusals = append(refusals, fmt.Sprintf("%s on %s: %s", pods[i].Name, nodes[i], refused))
				continue
			}
			forget, err := f.assume(pods[i], nodes[i])
			if err != nil {
				return nil, err
			}
			forgets = append(forgets, forget)
		}
		if len(left) == len(waiting) {
			return refusals, nil
		}
		waiting = left
	}
	return nil, nil
}

func replayInAnyOrder(ctx context.Context, f *filters, pods []*corev1.Pod, nodes []string, placed uint64, failed map[uint64]bool) (bool, error) {
	if placed == 1<<len(pods)-1 {
		return true, nil
	}
	if failed[placed] {
		return false, nil
	}
	for i, pod := range pods {
		if placed&(1<<i) != 0 || f.ask(ctx, f.begin(ctx, f.all, pod), nodes[i]) != nil {
			continue
		}
		forget, err := f.assume(pod, nodes[i])
		if err != nil {
			return false, err
		}
		found, err := replayInAnyOrder(ctx, f, pods, nodes, placed|1<<i, failed)
		if err := errors.Join(err, forget()); err != nil || found {
			return found, err
		}
	}
	failed[placed] = true
	return false, nil
}

// What a search for a place for the whole group came to.
type placement struct {
	// `fits`, `full`, or `unknown` when the search was cut off.
	Verdict string `json:"verdict"`
	// Node by kind and copy.
	Nodes [][]string `json:"nodes"`
	Calls int        `json:"calls"`
}

type search struct {
	filters *filters
	fleet   *fleet
	domain  []string
	// Pods placed by kind and node.
	placed [][]int
	dead   map[string]bool
	calls  int
}

// Tries every order of pods and every node, equal pods never apart.
func place(ctx context.Context, f *filters, q *fleet, domain []string) (*placement, error) {
	s := &search{filters: f, fleet: q, domain: domain, dead: map[string]bool{}}
	for range q.Kinds {
		s.placed = append(s.placed, make([]int, len(domain)))
	}
	found, err := s.step(ctx)
	if err != nil {
		return nil, err
	}
	result := &placement{Verdict: "full", Calls: s.calls}
	if found {
		result.Verdict = "fits"
		for _, counts := range s.placed {
			var nodes []string
			for at, count := range counts {
				nodes = append(nodes, slices.Repeat([]string{domain[at]}, count)...)
			}
			result.Nodes = append(result.Nodes, nodes)
		}
	} else if s.calls >= q.Limit {
		result.Verdict = "unknown"
	}
	return result, nil
}

func (s *search) step(ctx context.Context) (bool, error) {
	key := s.key()
	if s.dead[key] {
		return false, nil
	}
	complete := true
	for kind, pod := range s.fleet.Kinds {
		number := sum(s.placed[kind])
		if number == s.fleet.Counts[kind] {
			continue
		}
		complete = false
		if found, err := s.stepWith(ctx, kind, numbered(pod, number)); err != nil || found {
			return found, err
		}
	}
	s.dead[key] = true
	return complete, nil
}

func (s *search) stepWith(ctx context.Context, kind int, pod *corev1.Pod) (bool, error) {
	c := s.filters.begin(ctx, s.filters.all, pod)
	var open []int
	for at, node := range s.domain {
		if s.calls++; s.calls >= s.fleet.Limit {
			return false, nil
		}
		if s.filters.ask(ctx, c, node) == nil && s.staysAdmitted(ctx, pod, node) {
			open = append(open, at)
		}
	}
	for _, at := range open {
		forget, err := s.filters.assume(pod, s.domain[at])
		if err != nil {
			return false, err
		}
		s.placed[kind][at]++
		found, err := s.step(ctx)
		if err := errors.Join(err, forget()); err != nil || found {
			return found, err
		}
		s.placed[kind][at]--
	}
	return false, nil
}

// Once a pod is pinned, a spread constraint that honors node affinity knows one domain, which may be too few for it: no
// place for a group whose pods are going to be pinned.
func (s *search) staysAdmitted(ctx context.Context, pod *corev1.Pod, node string) bool {
	if !slices.ContainsFunc(pod.Spec.TopologySpreadConstraints, func(constraint corev1.TopologySpreadConstraint) bool {
		return constraint.MinDomains != nil && *constraint.MinDomains > 1
	}) {
		return true
	}
	return s.filters.ask(ctx, s.filters.begin(ctx, s.filters.all, pinnedTo(pod, node)), node) == nil
}

func (s *search) key() string {
	var key []byte
	for _, counts := range s.placed {
		for _, count := range counts {
			key = binary.AppendUvarint(key, uint64(count))
		}
	}
	return string(key)
}

func sum(counts []int) int {
	total := 0
	for _, count := range counts {
		total += count
	}
	return total
}

// Required node affinity grows by the node's name in every term that matches anything, or becomes just that.
func pinnedTo(pod *corev1.Pod, node string) *corev1.Pod {
	pinned := pod.DeepCopy()
	pin := corev1.NodeSelectorRequirement{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}
	if pinned.Spec.Affinity == nil {
		pinned.Spec.Affinity = &corev1.Affinity{}
	}
	if pinned.Spec.Affinity.NodeAffinity == nil {
		pinned.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	affinity := pinned.Spec.Affinity.NodeAffinity
	if affinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		affinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{pin}}},
		}
		return pinned
	}
	terms := affinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for i := range terms {
		if len(terms[i].MatchExpressions)+len(terms[i].MatchFields) > 0 {
			terms[i].MatchFields = append(terms[i].MatchFields, pin)
		}
	}
	return pinned
}
