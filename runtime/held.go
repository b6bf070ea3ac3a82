// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"context"

	"github.com/setun-compute/setun/dispatch"
)

// abroad says whether something that the call reads is on a device alone: pure Go has to wait for that too.
func (p *placed) abroad() bool {
	if p == nil {
		return false
	}
	for i := range p.uses {
		if u := &p.uses[i]; u.read && !u.buffer.where.In.Has(dispatch.Host) {
			return true
		}
	}
	return false
}

// leave leaves the buffers to a call that does not return: others that want them fail instead of waiting for it. From then on p is that call's alone, which ends with returned.
func (p *placed) leave() {
	if p == nil {
		return
	}
	uses := p.uses
	p.locked = 0
	for i := range uses {
		b := uses[i].buffer
		b.held = true
		b.lock.leave(0) // of the last one: p is not ours any longer
	}
}

// returned ends a call that was left: its buffers are everybody's again, and the memory of those that were closed meanwhile goes back.
func (p *placed) returned(m *arm, err error) {
	if p == nil {
		return
	}
	for i := range p.uses {
		_, _ = p.uses[i].buffer.lock.enter(context.Background()) // which does not end
		p.locked++
	}
	p.failed(m, err)
	for i := range p.uses {
		b := p.uses[i].buffer
		if b.held = false; b.closed {
			_ = b.free() // nobody is there to be told
		}
	}
	p.release()
}
