// SPDX-License-Identifier: Apache-2.0

package lloyd

import "github.com/setun-compute/setun/backends"

// iterate runs Lloyd's algorithm from f.centroids.
func (f *fit) iterate() error {
	a := f.a
	f.unlabelled()
	limit := 0.0
	if a.Tol > 0 {
		v, err := f.spread()
		if err != nil {
			return err
		}
		limit = a.Tol * v
	}
	a.Converged, a.Iterations = false, 0
	for a.Iterations < a.MaxIter && !a.Converged {
		stopped, err := f.advance(limit)
		if err != nil {
			return err
		}
		if stopped == Unmoved {
			if err := f.refill(); err != nil {
				return err
			}
			if moved := f.update(a.Tol > 0); a.Tol > 0 && moved <= limit {
				stopped = Still
			}
		}
		a.Converged = stopped == Still || stopped == Settled
		if stopped == Settled {
			return nil // labels and sums belong to the centroids already
		}
	}
	_, err := f.assign(false)
	return err
}

// advance does an iteration but for the move of the centroids, and says Unmoved; or whole iterations where the steps do those.
func (f *fit) advance(limit float64) (stopped Stop, err error) {
	a := f.a
	var changed int64
	done := 1
	if f.steps.Iterates {
		changed, done, stopped, err = f.several(limit)
	} else if changed, err = f.assign(true); changed == 0 {
		stopped = Settled
	} else {
		stopped = Unmoved
	}
	if err != nil {
		return 0, err
	}
	a.Iterations += done
	if a.Progress != nil {
		a.Progress(a.Iterations, changed)
	}
	return stopped, nil
}

// several does iterations in one step: all that are left, or one where each is to be told of.
func (f *fit) several(limit float64) (changed int64, done int, stopped Stop, err error) {
	a := f.a
	most := a.MaxIter - a.Iterations
	if a.Progress != nil {
		most = 1
	}
	s := Step{Kind: Iterate, K: a.K, Mean: f.mean, Centroids: f.centroids, Labels: a.Labels, Iterations: most, Limit: -1}
	if a.Tol > 0 {
		s.Limit = limit
	}
	f.summing(&s)
	if err = f.pass(&s); err != nil {
		return 0, 0, 0, err
	}
	if s.Iterations < 1 || s.Iterations > most || s.Stopped > Still || s.Stopped == All && s.Iterations < most {
		return 0, 0, 0, backends.Fail(backends.ErrBackend, backends.OpKMeans, a.Shape(), "did %d iterations of %d and stopped for reason %d", s.Iterations, most, s.Stopped)
	}
	f.moved = s.Changed
	f.tally(&s, s.Iterations)
	return s.Changed, s.Iterations, s.Stopped, nil
}
