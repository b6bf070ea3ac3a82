// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
)

const (
	dim     = 256 // values of a vector
	gram    = 6   // bytes of an n-gram
	buckets = 1 << 22
)

// file is one source file.
type file struct {
	pkg  string // its folder below the root
	text []byte
}

// read returns the Go files below root, without tests and testdata.
func read(root string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "testdata" || n == "vendor" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		pkg, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		files = append(files, file{filepath.ToSlash(pkg), text})
		return nil
	})
	return files, err
}

// grams calls f with the bucket of each n-gram of a text.
func grams(text []byte, f func(bucket uint32)) {
	var window uint64
	for i, b := range text {
		if window = (window<<8 | uint64(b)) & (1<<(8*gram) - 1); i >= gram-1 {
			f(uint32(window * 0x9E3779B97F4A7C15 >> 42))
		}
	}
}

// vectors turns files into rows of length 1: the n-grams of a file, weighted by how often it has them and how few other
// files do (tf-idf), projected at random to dim values by a signed hash, which keeps the angles between files.
func vectors(files []file) []float32 {
	inFiles, lastFile, count := make([]int32, buckets), make([]int32, buckets), make([]int32, buckets)
	for i, f := range files {
		grams(f.text, func(b uint32) {
			if lastFile[b] != int32(i+1) {
				lastFile[b] = int32(i + 1)
				inFiles[b]++
			}
		})
	}
	x := make([]float32, len(files)*dim)
	sum := make([]float64, dim)
	var present []uint32
	for i, f := range files {
		present = present[:0]
		grams(f.text, func(b uint32) {
			if count[b]++; count[b] == 1 {
				present = append(present, b)
			}
		})
		clear(sum)
		for _, b := range present {
			n := inFiles[b]
			if n > 1 && int(n) < len(files)/5 { // not unique to the file, nor everywhere
				w := (1 + math.Log(float64(count[b]))) * math.Log(float64(len(files))/float64(n))
				h := b * 2654435769
				if h>>31 == 0 {
					w = -w
				}
				sum[h>>8%dim] += w
			}
			count[b] = 0
		}
		length := 0.0
		for _, v := range sum {
			length += v * v
		}
		for j, v := range sum {
			x[i*dim+j] = float32(v / math.Sqrt(length+1e-9))
		}
	}
	return x
}
