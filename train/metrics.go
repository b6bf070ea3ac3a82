// SPDX-License-Identifier: Apache-2.0

package train

import (
	"encoding/json"
	"io"
)

// Record is what a step tells: a line of the metrics file. Times are of the clock and no part of what a run computes.
type Record struct {
	Step   int     `json:"step"`
	Loss   float64 `json:"loss"` // nats a token, of the step's batch
	Tokens int64   `json:"tokens"`
	Rate   float64 `json:"rate"`             // learning rate
	Mix    float64 `json:"mix"`              // 0: latent weights, 1: ternary ones
	Norm   float64 `json:"gradient_norm"`    // before it is clipped
	Moved  float64 `json:"step_norm"`        // of all parameters together
	Radius float64 `json:"radius,omitempty"` // of the trust region
	Inside float64 `json:"inside,omitempty"` // share of the groups of rows whose step lay within it
	Flips  float64 `json:"flips"`            // share of the ternary codes that changed

	Validation float64  `json:"validation,omitempty"` // nats a token; 0: not evaluated at this step
	Aux        *AuxNote `json:"aux,omitempty"`        // at steps at which the auxiliary network decides

	WireBytes int64 `json:"wire_bytes,omitempty"` // that this process sent to others: all send as many

	TokensPerSecond float64 `json:"tokens_per_second"`
	Runtime         float64 `json:"runtime_share"` // of the step's time, in ops of the runtime
}

// AuxNote is a decision of the auxiliary network, and how it did so far.
type AuxNote struct {
	RateFactor   float64 `json:"rate_factor"`
	RadiusFactor float64 `json:"radius_factor"`
	Ratio        float64 `json:"ratio"`    // of the actual to the predicted decrease of the loss, of the last step that was looked at
	Success      float64 `json:"success"`  // share of its decisions with a ratio in [1/4, 4]
	Plain        float64 `json:"plain"`    // that of the plain schedule, which takes 8 decisions of 64; when it does better the network falls back to it
	Decrease     float64 `json:"decrease"` // share of all with any decrease: what always predicting one would have had
	Active       bool    `json:"active"`   // not fallen back to the plain schedule
}

// metrics writes records as lines of JSON.
type metrics struct {
	w io.Writer // nil: nowhere
}

func (m metrics) add(r *Record) error {
	if m.w == nil {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = m.w.Write(append(line, '\n'))
	return err
}
