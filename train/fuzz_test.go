// SPDX-License-Identifier: Apache-2.0

package train

import (
	"errors"
	"maps"
	"path/filepath"
	"testing"

	"github.com/setun-compute/setun/quant/stn"
)

// FuzzModel reads a run's model file and its checkpoint with other metadata: what they say of the model need not be what the tensors are.
func FuzzModel(f *testing.F) {
	c, rt, folder := plain(text(f)), open(f), f.TempDir()
	if _, _, err := Run(f.Context(), rt, c, Options{Folder: folder}); err != nil {
		f.Fatal(err)
	}
	var files [2]*stn.File
	var whole [2]map[string]string
	for i, name := range []string{modelFile, checkpointFile} {
		var err error
		if files[i], err = stn.Open(filepath.Join(folder, name)); err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { files[i].Close() })
		whole[i] = files[i].Metadata()
	}
	m, k := whole[0], whole[1]
	f.Add(m[keyModel], m[keyModelStep], m[keyModelWords], k[keyState+stateRun])
	f.Add(k[keyConfig], k[keyStep], k[keyState+stateWords], k[keyState+stateRun])
	f.Add(`{"vocab":1000000000,"layers":1000000,"heads":1,"width":1000000,"context":1000000}`, "-1", `{"pieces":"ba"}`, `{"layers":{"ends":[1e308]}}`)
	f.Add("{}", "1e9", `{"single":true} 1`, "null")
	f.Fuzz(func(t *testing.T, config, step, words, run string) {
		for i, change := range []map[string]string{{keyModel: config, keyModelStep: step, keyModelWords: words}, {keyConfig: config, keyStep: step, keyState + stateWords: words, keyState + stateRun: run}} {
			metadata := maps.Clone(whole[i])
			maps.Copy(metadata, change)
			l, err := new(Language), error(nil)
			if i == 0 {
				err = l.packed(rt, files[i], metadata)
			} else {
				err = l.checkpoint(rt, files[i], metadata)
			}
			if err != nil {
				continue
			}
			if l.Step < 0 || l.words.Size() != l.Model.Vocab {
				t.Fatalf("%+v", l)
			}
			n := 0
			if err := l.Generate(t.Context(), GenerateOptions{Tokens: 2, Temperature: 1}, func(int32, []byte) error { n++; return nil }); err != nil && !errors.Is(err, ErrPrompt) || err == nil && n != 2 {
				t.Fatalf("%d tokens, %v", n, err)
			}
		}
	})
}
