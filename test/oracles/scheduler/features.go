package main

import "k8s.io/dynamic-resource-allocation/structured"

// Defaults of Kubernetes 1.37.
var deviceFeatures = structured.Features{
	AdminAccess:             true,
	ConsumableCapacity:      true,
	DeviceBindingAndStatus:  true,
	DeviceTaints:            true,
	FractionalCapacityRange: true,
	PartitionableDevices:    true,
	PrioritizedList:         true,
}
