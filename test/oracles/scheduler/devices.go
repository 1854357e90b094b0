package main

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	dracel "k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

// allocation asks what the claims of a pod would get on a node.
type allocation struct {
	Node    corev1.Node                  `json:"node"`
	Slices  []*resourceapi.ResourceSlice `json:"slices"`
	Classes []*resourceapi.DeviceClass   `json:"classes"`
	Claims  []*resourceapi.ResourceClaim `json:"claims"`
	// Results of claims that are allocated already.
	Taken []resourceapi.DeviceRequestAllocationResult `json:"taken"`
}

var selectorCache = dracel.NewCache(1000, dracel.Features{EnableConsumableCapacity: true})

type classes []*resourceapi.DeviceClass

func (c classes) List() ([]*resourceapi.DeviceClass, error) { return c, nil }

func (c classes) Get(name string) (*resourceapi.DeviceClass, error) {
	for _, class := range c {
		if class.Name == name {
			return class, nil
		}
	}
	return nil, errors.New("not found")
}

func allocateDevices(ctx context.Context, q allocation) answer {
	allocator, err := structured.NewAllocator(ctx, deviceFeatures, stateOf(q.Taken), classes(q.Classes), q.Slices, selectorCache)
	if err != nil {
		return answer{"error": err.Error()}
	}
	results, err := allocator.Allocate(ctx, &q.Node, q.Claims)
	if err != nil {
		// Only this one lets kube-scheduler go on with other nodes.
		return answer{"fails": err.Error(), "onNodeOnly": errors.Is(err, structured.ErrFailedAllocationOnNode)}
	}
	if results == nil {
		return answer{"results": nil}
	}
	claims := make([]map[string]any, len(results))
	for i, result := range results {
		devices := []map[string]any{}
		for _, device := range result.Devices.Results {
			consumed := map[string]string{}
			for name, quantity := range device.ConsumedCapacity {
				consumed[string(name)] = quantity.AsDec().String()
			}
			devices = append(devices, map[string]any{
				"request":     device.Request,
				"device":      fmt.Sprintf("%s//%s//%s", device.Driver, device.Pool, device.Device),
				"admin":       device.AdminAccess != nil && *device.AdminAccess,
				"consumed":    consumed,
				"tolerations": device.Tolerations,
			})
		}
		claims[i] = map[string]any{"devices": devices, "nodeSelector": result.NodeSelector}
	}
	return answer{"results": claims}
}

// stateOf sums up allocations as the dynamicresources plugin of kube-scheduler does.
func stateOf(taken []resourceapi.DeviceRequestAllocationResult) structured.AllocatedState {
	state := structured.AllocatedState{
		AllocatedDevices:         sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection(),
	}
	for i, result := range taken {
		if result.AdminAccess != nil && *result.AdminAccess {
			continue
		}
		id := structured.MakeDeviceID(result.Driver, result.Pool, result.Device)
		if result.ShareID == nil {
			state.AllocatedDevices.Insert(id)
			continue
		}
		share := types.UID(fmt.Sprintf("share-%d", i))
		state.AllocatedSharedDeviceIDs.Insert(structured.MakeSharedDeviceID(id, &share))
		if result.ConsumedCapacity != nil {
			state.AggregatedCapacity.Insert(structured.NewDeviceConsumedCapacity(id, result.ConsumedCapacity))
		}
	}
	return state
}
