// SPDX-License-Identifier: Apache-2.0

// Tour shows Setun on real input that every machine with Go has: the source code of Go itself. Its files become vectors, the
// vectors are clustered and quantized, an update is constrained; for each step the tour tells which kernel ran, what time was
// predicted and measured, and what pure Go needed for the same bits.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/setun-compute/setun/dispatch"
	"github.com/setun-compute/setun/quant"
	setun "github.com/setun-compute/setun/runtime"
)

const clusters = 16

func main() {
	root := flag.String("root", "", "folder with Go source; the default is GOROOT/src")
	flag.Parse()
	if err := tour(*root); err != nil {
		fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// guide runs each step on the dispatcher's choice and again in pure Go.
type guide struct {
	fast, pure *setun.Runtime
	event      setun.Event // of the latest call on fast
}

func tour(root string) error {
	if root == "" {
		out, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return fmt.Errorf("go env GOROOT: %w; name a folder with -root", err)
		}
		root = strings.TrimSpace(string(out)) + "/src"
	}
	g := new(guide)
	var err error
	if g.fast, err = setun.Open(setun.WithObserver(func(e setun.Event) { g.event = e })); err != nil {
		return err
	}
	defer g.fast.Close()
	if g.pure, err = setun.Open(setun.WithForce("cpu"), setun.WithProfile("")); err != nil {
		return err
	}
	defer g.pure.Close()

	fmt.Fprintf(os.Stderr, "reading %s …\n", root)
	files, err := read(root)
	if err != nil {
		return err
	}
	if len(files) < clusters {
		return fmt.Errorf("%s has %d Go files, %d are needed", root, len(files), clusters)
	}
	x := vectors(files)
	fmt.Printf("%d files of %s, a vector of %d values each: hashed %d-grams of bytes\n", len(files), root, dim, gram)
	c, err := g.cluster(files, x)
	if err != nil {
		return err
	}
	if err := g.quantize(x); err != nil {
		return err
	}
	return g.constrain(x, c)
}

// step prints which kernel ran and compares with pure Go.
func (g *guide) step(what string, pure time.Duration, same bool) {
	e := g.event
	bits := "same bits"
	if !same {
		bits = "DIFFERENT BITS"
	}
	each := ""
	if e.Op == "kmeans" {
		each = " an iteration"
	}
	fmt.Printf("  → %s: %s, predicted %s, measured %s%s; pure Go %s (%.1f×), %s\n", what, e.Kernel,
		dispatch.Duration(e.Predicted), dispatch.Duration(e.Measured), each, dispatch.Duration(float64(pure)), float64(pure)/e.Measured, bits)
}

// timed calls f and returns how long it took.
func timed(f func() error) (time.Duration, error) {
	begin := time.Now()
	err := f()
	return time.Since(begin), err
}

func (g *guide) cluster(files []file, x []float32) (*setun.Clustering, error) {
	ctx := context.Background()
	o := setun.KMeansOptions{K: clusters, Seed: 1958}
	c, err := g.fast.KMeans(ctx, nil, x, dim, o)
	if err != nil {
		return nil, err
	}
	var p *setun.Clustering
	took, err := timed(func() error { p, err = g.pure.KMeans(ctx, nil, x, dim, o); return err })
	if err != nil {
		return nil, err
	}
	fmt.Printf("\nKMeans: %d clusters, %d iterations, inertia %.1f\n", c.K, c.Iterations, c.Inertia)
	g.step(fmt.Sprintf("%dx%d, k=%d", len(files), dim, c.K), took/time.Duration(p.Iterations), slices.Equal(c.Labels, p.Labels) && slices.Equal(c.Centroids, p.Centroids))
	fmt.Println("\n  files  packages nearest the centroid")
	for j := range c.K {
		fmt.Printf("  %5d  %s\n", c.Counts[j], strings.Join(nearest(files, x, c, j, 6), ", "))
	}
	return c, nil
}

// nearest lists the packages of the files nearest to centroid j.
func nearest(files []file, x []float32, c *setun.Clustering, j, most int) []string {
	type member struct {
		pkg      string
		distance float64
	}
	var members []member
	for i, l := range c.Labels {
		if int(l) != j {
			continue
		}
		d := 0.0
		for p, v := range x[i*dim:][:dim] {
			e := float64(v - c.Centroids[j*dim+p])
			d += e * e
		}
		members = append(members, member{files[i].pkg, d})
	}
	slices.SortStableFunc(members, func(a, b member) int {
		switch {
		case a.distance < b.distance:
			return -1
		case a.distance > b.distance:
			return 1
		}
		return 0
	})
	var list []string
	for _, m := range members {
		if !slices.Contains(list, m.pkg) && len(list) < most {
			list = append(list, m.pkg)
		}
	}
	return list
}

func (g *guide) quantize(x []float32) error {
	fmt.Printf("\nQuantize: %d values, one scale a row of %d\n", len(x), dim)
	fmt.Println("  codes    rule           format   error   cosine  ‖q‖/‖x‖  zeros   entropy  bits taken  compression")
	for _, o := range []quant.Options{
		{},
		{Format: quant.Bits2},
		{Format: quant.Base3},
		{Rule: quant.LeastSquares, Format: quant.Base3},
		{Rule: quant.Magnitude, Format: quant.Base3},
		{Levels: quant.Quinary, Rule: quant.AbsMean},
		{Levels: quant.Quinary, Rule: quant.LeastSquares},
	} {
		o.Cols, o.Group = dim, quant.PerRow
		o = o.WithDefaults(len(x))
		q, err := g.fast.Quantize(nil, x, o)
		if err != nil {
			return err
		}
		if q, err = g.fast.Quantize(q, x, o); err != nil { // the second call is timed: its memory is there
			return err
		}
		s, err := quant.Measure(q, x)
		if err != nil {
			return err
		}
		fmt.Printf("  %-8v %-14v %-6v  %5.1f %%   %.3f    %.3f   %4.1f %%   %.3f      %5.3f       %5.2f×\n", o.Levels, o.Rule, o.Format, 100*s.Relative, s.Cosine, s.Magnitude, 100*s.Zeros, s.Entropy, s.Bits, s.Compression)
		p, err := g.pure.Quantize(nil, x, o)
		if err != nil {
			return err
		}
		took, err := timed(func() error { p, err = g.pure.Quantize(p, x, o); return err })
		if err != nil {
			return err
		}
		same := slices.Equal(q.Codes, p.Codes) && bytes.Equal(q.Packed, p.Packed) && slices.Equal(q.Scales, p.Scales)
		g.step(fmt.Sprintf("%d values", len(x)), took, same)
	}
	fmt.Println("  error is ‖x − q‖²/‖x‖². Ternary codes carry at most log2 3 = 1.585 bits, quinary ones log2 5 = 2.32; int8 takes 8 for either.")
	return nil
}

// constrain takes one more step towards the centroids and keeps it within a trust region.
func (g *guide) constrain(x []float32, c *setun.Clustering) error {
	delta := make([]float32, len(x))
	for i, l := range c.Labels {
		for p, v := range x[i*dim:][:dim] {
			delta[i*dim+p] = c.Centroids[int(l)*dim+p] - v
		}
	}
	full, err := g.fast.Norm2(delta)
	if err != nil {
		return err
	}
	radius := full / 4
	out, norm, err := g.fast.Constrain(make([]float32, len(delta)), delta, radius)
	if err != nil {
		return err
	}
	p := make([]float32, len(delta))
	took, err := timed(func() error { _, _, err := g.pure.Constrain(p, delta, radius); return err })
	if err != nil {
		return err
	}
	event := g.event
	after, err := g.fast.Norm2(out)
	if err != nil {
		return err
	}
	g.event = event
	fmt.Printf("\nConstrain: a step of %d values towards the centroids, ‖step‖ = %.4f, radius %.4f, afterwards %.6f, within the ball: %t\n", len(delta), norm, radius, after, after <= radius)
	g.step(fmt.Sprintf("%d values", len(delta)), took, slices.Equal(out, p))
	return nil
}
