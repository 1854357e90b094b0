package main

import (
	"context"

	resourceapi "k8s.io/api/resource/v1"
	dracel "k8s.io/dynamic-resource-allocation/cel"
)

// selectable is a device as a ResourceSlice of a driver has it.
type selectable struct {
	Driver string             `json:"driver"`
	Device resourceapi.Device `json:"device"`
}

// selects evaluates a DRA selector as the allocator of kube-scheduler does: "true", "false", or how it fails.
func selects(expression string, asked selectable) answer {
	compiler := dracel.GetCompiler(dracel.Features{EnableConsumableCapacity: true})
	compiled := compiler.CompileCELExpression(expression, dracel.Options{DisableCostEstimation: true})
	if compiled.Error != nil {
		return answer{"value": "compile", "message": compiled.Error.Error()}
	}
	matches, _, err := compiled.DeviceMatches(context.Background(), dracel.Device{
		Driver:                   asked.Driver,
		AllowMultipleAllocations: asked.Device.AllowMultipleAllocations,
		Attributes:               asked.Device.Attributes,
		Capacity:                 asked.Device.Capacity,
	})
	if err != nil {
		return answer{"value": "runtime", "message": err.Error()}
	}
	if matches {
		return answer{"value": "true"}
	}
	return answer{"value": "false"}
}
