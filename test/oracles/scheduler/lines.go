package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

type answer map[string]any

// answerLines reads one JSON object per line and writes one per line.
func answerLines[Question any](reply func(Question) answer) {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	for in.Scan() {
		var q Question
		var a answer
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			a = answer{"error": err.Error()}
		} else {
			a = reply(q)
		}
		if err := encoder.Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
