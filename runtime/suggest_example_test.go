// SPDX-License-Identifier: Apache-2.0

package runtime_test

import (
	"context"
	"fmt"
	"math/rand/v2"

	setun "github.com/setun-compute/setun/runtime"
)

// threeSquares are 300 points in three squares of sides 2, 4 and 8.
func threeSquares() []float32 {
	r := rand.New(rand.NewPCG(1, 1))
	var points []float32
	for i := range 300 {
		side := []float32{2, 4, 8}[i%3]
		points = append(points, 20*float32(i%3)+side*r.Float32(), side*r.Float32())
	}
	return points
}

// How many clusters are there, and why? The answer comes with centroids to start KMeans from.
func ExampleRuntime_SuggestK() {
	rt, err := setun.Open(setun.WithProfile(""))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close()
	points := threeSquares()
	s, err := rt.SuggestK(context.Background(), points, 2, setun.SuggestOptions{MaxK: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(s)
	c, err := rt.KMeans(context.Background(), nil, points, 2, setun.KMeansOptions{K: s.K, Centroids: s.Centroids})
	fmt.Printf("KMeans: inertia %.4g, %v\n", c.Inertia, err)
	// Output:
	// suggest k 300x2 → k = 3
	//   4 of 5 criteria choose k = 3: Calinski-Harabasz, silhouette, knee and separation
	//    k     inertia          BIC  Calinski-Harabasz  silhouette     knee   separation
	//    1   9.412e+04    -2376.54                  0      0.0000    0.000         0.00
	//    2    2.39e+04    -2164.81             875.68      0.7219    0.607         5.32
	// →  3        1483    -1478.14             9274.7*     0.9141*   0.703*      137.00* apart
	//    4        1021    -1443.64             8992.4      0.7901    0.565         3.98
	//    5       812.6    -1414.68             8467.9      0.7983    0.425         6.54
	//    6       606.9    -1373.35*            9060.1      0.8123    0.284         3.03
	//    7       514.7    -1401.61             8881.8      0.6617    0.142         3.05
	//    8       462.8    -1408.46             8441.9      0.6553    0.000         3.70
	// KMeans: inertia 1483, <nil>
}

// How many bits does each of those clusters deserve, when the quantization may lose 0.1 % of the variance, or take 4 bits a value?
func ExampleRuntime_SuggestPrecision() {
	rt, err := setun.Open(setun.WithProfile(""))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rt.Close()
	points := threeSquares()
	c, err := rt.KMeans(context.Background(), nil, points, 2, setun.KMeansOptions{K: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range []setun.PrecisionOptions{{MaxError: 0.001}, {MaxBits: 4}} {
		plan, err := rt.SuggestPrecision(context.Background(), points, 2, c, o)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Print(plan)
	}
	// Output:
	// suggest precision 300x2, 3 clusters → 3.723 bits a value, expected error 0.069 % of the variance
	//   the fewest bits for an error of at most 0.1 %; no choice has less than 2.780
	// cluster    points      spread     largest  precision    bits  expected error of a value
	//       0       100      0.5742        1.07  ternary     1.585  0.0627
	//       1       100       1.173       2.104  ternary     1.585  0.262
	//       2       100        2.39       4.233  int8        8.000  9.26e-05
	// suggest precision 300x2, 3 clusters → 3.969 bits a value, expected error 0.0374 % of the variance
	//   the least error for at most 4.000 bits; no choice has less than 0.0364 %
	// cluster    points      spread     largest  precision    bits  expected error of a value
	//       0       100      0.5742        1.07  ternary     1.585  0.0627
	//       1       100       1.173       2.104  quinary     2.322  0.113
	//       2       100        2.39       4.233  int8        8.000  9.26e-05
}
