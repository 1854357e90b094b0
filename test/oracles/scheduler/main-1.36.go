//go:build kubernetes136

// Answers with the structured allocator of Kubernetes 1.36: one JSON object per line in, one out.
package main

import (
	"context"

	"k8s.io/dynamic-resource-allocation/structured"
)

// Defaults of Kubernetes 1.36.
var deviceFeatures = structured.Features{
	AdminAccess:            true,
	ConsumableCapacity:     true,
	DeviceBindingAndStatus: true,
	DeviceTaints:           true,
	PartitionableDevices:   true,
	PrioritizedList:        true,
}

type question struct {
	Devices allocation `json:"devices"`
}

func main() {
	answerLines(func(q question) answer { return allocateDevices(context.Background(), q.Devices) })
}
