// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"testing"

	"github.com/setun-compute/setun/internal/durable"
	"github.com/setun-compute/setun/internal/durable/crashtest"
)

const savedAt = "/home/user/model.gguf"

var saved = crashtest.Floats{
	Path: savedAt,
	Write: func(files durable.Files, x []float32) error {
		w, err := createIn(files, savedAt, []KeyValue{NewKey("k", "v")}, []Info{{Name: "a", Dims: []int64{int64(len(x))}, Type: F32}})
		if err != nil {
			return err
		}
		defer w.Abort()
		if err := w.WriteFloats(x); err != nil {
			return err
		}
		return w.Close()
	},
	Read: func(data []byte) ([]float32, error) {
		f, err := Parse(data)
		if err != nil {
			return nil, err
		}
		return f.Floats(0, nil)
	},
}

func TestF22FileWithAFailingDisk(t *testing.T) { saved.Test(t, (*crashtest.Save).Failures) }

func TestF23FileAfterAPowerLoss(t *testing.T) { saved.Test(t, (*crashtest.Save).Crashes) }
