// Places groups with Kueue's own topology-aware scheduling: one JSON event per line in, one answer per line out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

// event is one line: `fleet` starts anew, `ask` finds places, `place` takes them too, `free` gives back what `place` took.
type event struct {
	Kind   string   `json:"kind"`
	Levels []string `json:"levels"`
	Nodes  []node   `json:"nodes"`
	Group  string   `json:"group"`
	Ask    *ask     `json:"ask"`
}

// node has amounts in Kueue's units: milli CPUs, and whole numbers of everything else.
type node struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels"`
	Allocatable map[string]int64  `json:"allocatable"`
	Taints      []corev1.Taint    `json:"taints"`
	Cordoned    bool              `json:"cordoned"`
	// Used has what each pod takes that Kueue has not placed.
	Used []map[string]int64 `json:"used"`
}

// ask is a group. A leader of its own kind is one of its Size members. Levels are node label keys.
type ask struct {
	Size      int32   `json:"size"`
	Worker    demand  `json:"worker"`
	Leader    *demand `json:"leader"`
	Required  string  `json:"required"`
	Preferred string  `json:"preferred"`
	Slice     *slice  `json:"slice"`
	// Workload names what Kueue may remember matching nodes for; without it Kueue looks at each node anew.
	Workload string `json:"workload"`
}

type demand struct {
	Requests     map[string]int64    `json:"requests"`
	NodeSelector map[string]string   `json:"nodeSelector"`
	Tolerations  []corev1.Toleration `json:"tolerations"`
}

type slice struct {
	Size  int32  `json:"size"`
	Level string `json:"level"`
}

type answer struct {
	// Nodes has the node of each member, the leader's first.
	Nodes   []string `json:"nodes,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	FindNs  int64    `json:"findNs"`
	ApplyNs int64    `json:"applyNs"`
	Error   string   `json:"error,omitempty"`
}

func main() {
	ctrl.SetLogger(logr.Discard())
	ctx := ctrl.LoggerInto(context.Background(), logr.Discard())
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 256<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	current := &fleet{}
	for in.Scan() {
		reply, err := take(ctx, &current, in.Bytes())
		if err != nil {
			reply = answer{Error: err.Error()}
		}
		if err := encoder.Encode(reply); err != nil {
			fail(err)
		}
	}
	if err := errors.Join(in.Err(), out.Flush()); err != nil {
		fail(err)
	}
}

func take(ctx context.Context, current **fleet, line []byte) (answer, error) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		return answer{}, err
	}
	switch e.Kind {
	case "fleet":
		made, err := newFleet(ctx, e.Levels, e.Nodes)
		if err == nil {
			*current = made
		}
		return answer{}, err
	case "free":
		return (*current).free(e.Group)
	case "ask", "place":
		if e.Ask == nil || (*current).queue == nil {
			return answer{}, errors.New("nothing is asked, or there is no fleet yet")
		}
		return (*current).find(ctx, e.Group, *e.Ask, e.Kind == "place")
	default:
		return answer{}, fmt.Errorf("unknown kind %q", e.Kind)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
