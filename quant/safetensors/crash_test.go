// SPDX-License-Identifier: Apache-2.0

package safetensors

import (
	"testing"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
)

const savedAt = "/home/user/model.safetensors"

var saved = crashtest.Floats{
	Path: savedAt,
	Write: func(files durable.Files, x []float32) error {
		return writeIn(files, savedAt, []Tensor{{Name: "a", Shape: []int{len(x)}, Values: x}}, map[string]string{"format": "pt"})
	},
	Read: func(data []byte) ([]float32, error) {
		f, err := Parse(data)
		if err != nil {
			return nil, err
		}
		return f.Floats("a", nil)
	},
}

func TestF22FileWithAFailingDisk(t *testing.T) { saved.Test(t, (*crashtest.Save).Failures) }

func TestF23FileAfterAPowerLoss(t *testing.T) { saved.Test(t, (*crashtest.Save).Crashes) }
