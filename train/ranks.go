// SPDX-License-Identifier: Apache-2.0

package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unsafe"

	"github.com/setun-compute/setun/quant"
	"github.com/setun-compute/setun/runtime"
	"github.com/setun-compute/setun/train/optim"
	"github.com/setun-compute/setun/train/parallel"
)

// How gradients go between processes; "" is as float32.
const (
	compressTernary = "ternary"
	compressRows    = "ternary-row"
)

// forum is where the ranks of a run agree. The kinds are what decides what a run does after an error, or what its caller does.
func (o *Options) forum() *parallel.Forum {
	p := o.Peers
	if p == nil {
		p = parallel.Alone{}
	}
	return parallel.NewForum(p, ErrDiverged, ErrConfig, ErrCheckpoint, context.Canceled, context.DeadlineExceeded, runtime.ErrNonFinite)
}

// join makes a trainer one of several; those of a rank other than 0 write nothing and are heard by nobody.
func (t *trainer) join(tensors []optim.Tensor) (err error) {
	t.saves = t.opts.Folder != ""
	switch {
	case t.Compress != "":
		group := 0
		if t.Compress == compressRows {
			group = quant.PerRow
		}
		t.reduce, err = parallel.NewCodes(t.rt, t.forum, tensors, group)
	case t.Ranks > 1:
		t.reduce = parallel.NewFloats(t.forum.Peers, tensors)
	}
	return err
}

// together has all ranks find out whether all can begin, and begin with the same.
func together(f *parallel.Forum, t *trainer, err error) error {
	if err := f.Agree(err); err != nil || f.Size() == 1 {
		return err
	}
	config, err := json.Marshal(t.Config)
	config = fmt.Appendf(config, "%d %v %v", t.opts.Stop, t.saves, t.opts.Mapped)
	for _, x := range []struct {
		what   string
		number uint64
	}{{"configuration", uint64(crc32.ChecksumIEEE(config))}, {"text of " + t.text.name, uint64(t.text.checksum)}, {"step of the checkpoint", uint64(t.step)}, {"parameters", t.checksum()}} {
		if err = f.Same(x.what, x.number, err); err != nil {
			return err
		}
	}
	if f.Rank() > 0 {
		t.opts.Folder, t.opts.Progress, t.opts.Warn, t.opts.Sample = "", nil, nil, 0
	}
	return nil
}

// several says whether there are other ranks.
func (t *trainer) several() bool { return t.Ranks > 1 }

// add replaces the gradients by their sums over the ranks.
func (t *trainer) add() error {
	if t.reduce == nil {
		return nil
	}
	var err error
	if t.opts.Mapped {
		err = t.forum.Agree(t.model.Home())
	}
	if err == nil {
		err = t.reduce.Add(uint64(t.step))
	}
	for _, p := range t.model.Params() {
		err = errors.Join(err, t.rt.Changed(p.Grad))
	}
	if err != nil {
		t.spoiled = true // what coding remembers is neither that before the step nor that after it, or there is nobody to ask
	}
	if errors.Is(err, runtime.ErrNonFinite) {
		err = fmt.Errorf("%w: step %d: %w", ErrDiverged, t.step+1, err)
	}
	return err
}

// stopped says whether the error is one with which all ranks stop, or after which they cannot hear of each other.
func stopped(err error) bool {
	var s *parallel.Stop
	return errors.As(err, &s) || errors.Is(err, parallel.ErrExchange)
}

// leaves says whether a run that ends with an error leaves a checkpoint: after an interruption, and of the step before it diverged. All ranks decide alike, since making one takes all of them.
func (t *trainer) leaves(ctx context.Context, err error) bool {
	if t.several() {
		return stopped(err) && (errors.Is(err, ErrDiverged) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
	}
	return ctx.Err() != nil || errors.Is(err, ErrDiverged)
}

// checksum is that of all parameters.
func (t *trainer) checksum() uint64 {
	sum, table := uint32(0), crc32.MakeTable(crc32.Castagnoli)
	for _, p := range t.model.Params() {
		sum = crc32.Update(sum, table, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(p.Value))), 4*len(p.Value)))
	}
	return uint64(sum)
}

// rankPrefix begins the names of what a rank keeps for itself in a checkpoint.
func rankPrefix(rank int) string { return fmt.Sprintf("rank/%d/", rank) }

// residuals adds what each rank keeps for itself to the floats of a checkpoint, after all have found their parameters to be the same, and that none has an error. All ranks call it.
func (t *trainer) residuals(floats map[string][]float32, err error) error {
	if !t.several() {
		if err != nil {
			return err
		}
	} else {
		if err := t.forum.Same(fmt.Sprintf("parameters after step %d", t.step), t.checksum(), err); err != nil {
			t.spoiled = true
			return err
		}
	}
	if t.Compress == "" {
		return nil
	}
	t.own = t.reduce.State(t.own)
	for _, p := range t.model.Params() { // in one order on all ranks
		name := p.Name + "/residual"
		mine := t.own.Floats[name]
		all := make([]float32, len(mine)*t.Ranks)
		if err := t.forum.GatherFloats(all, mine); err != nil {
			t.spoiled = true
			return err
		}
		for r := range t.Ranks {
			floats[rankPrefix(r)+name] = all[r*len(mine):][:len(mine)]
		}
	}
	return nil
}

// loadResiduals takes what this rank keeps for itself from a checkpoint.
func (t *trainer) loadResiduals(c *checkpoint) error {
	if t.Compress == "" {
		return nil
	}
	own, prefix := &optim.State{Floats: map[string][]float32{}}, rankPrefix(t.forum.Rank())
	for name, v := range c.floats {
		if len(name) > len(prefix) && name[:len(prefix)] == prefix {
			own.Floats[name[len(prefix):]] = v
		}
	}
	return t.reduce.Load(own)
}

// wire fills in what a summary says of the bytes between ranks.
func (t *trainer) wire(s *Summary, records []Record) {
	if !t.several() || len(records) == 0 {
		return
	}
	for i := range records {
		s.WireBytes += records[i].WireBytes
	}
	s.WireBytes = int64(math.Round(float64(s.WireBytes) / float64(len(records))))
	s.WireTotal = t.forum.Sent() * int64(t.Ranks)
	s.WireRatio = float64(parallel.FloatBytes(s.Parameters, t.Ranks)) / float64(s.WireBytes)
}
