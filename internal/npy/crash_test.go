// SPDX-License-Identifier: Apache-2.0

package npy

import (
	"testing"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
	"github.com/setun-compute/setun/internal/floats"
)

const savedAt = "/home/user/vectors.npy"

var saved = crashtest.Floats{
	Path:  savedAt,
	Write: func(files durable.Files, x []float32) error { return writeIn(files, savedAt, x, len(x)) },
	Read: func(data []byte) ([]float32, error) {
		h, err := ParseHeader(data, int64(len(data)))
		if err != nil {
			return nil, err
		}
		x := make([]float32, h.Count)
		floats.FromFloat32(x, data[h.Offset:])
		return x, nil
	},
}

func TestF22FileWithAFailingDisk(t *testing.T) { saved.Test(t, (*crashtest.Save).Failures) }

func TestF23FileAfterAPowerLoss(t *testing.T) { saved.Test(t, (*crashtest.Save).Crashes) }
