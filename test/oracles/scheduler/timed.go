package main

import (
	"context"
	"time"

	"k8s.io/dynamic-resource-allocation/structured"
)

// timedAllocations asks how long allocations take that are all read beforehand.
type timedAllocations struct {
	Cases  []allocation `json:"cases"`
	WarmUp int          `json:"warmUp"`
	Rounds int          `json:"rounds"`
}

// timeDevices gives the nanoseconds of every allocation, round by round, and the answers to the cases. Counted is what
// kube-scheduler does for a pod on one node: not the sum of what is taken, which it keeps up beside.
func timeDevices(ctx context.Context, q timedAllocations) answer {
	states := make([]structured.AllocatedState, len(q.Cases))
	for i, each := range q.Cases {
		states[i] = stateOf(each.Taken)
	}
	nanoseconds := make([]int64, 0, q.Rounds*len(q.Cases))
	for round := -q.WarmUp; round < q.Rounds; round++ {
		for i := range q.Cases {
			each := &q.Cases[i]
			started := time.Now()
			allocator, err := structured.NewAllocator(ctx, deviceFeatures, states[i], classes(each.Classes), each.Slices, selectorCache)
			if err != nil {
				return answer{"error": err.Error()}
			}
			// What comes of it, failures among them, is told below.
			_, _ = allocator.Allocate(ctx, &each.Node, each.Claims)
			if round >= 0 {
				nanoseconds = append(nanoseconds, time.Since(started).Nanoseconds())
			}
		}
	}
	answers := make([]answer, len(q.Cases))
	for i, each := range q.Cases {
		answers[i] = allocateDevices(ctx, each)
	}
	return answer{"nanoseconds": nanoseconds, "answers": answers}
}
