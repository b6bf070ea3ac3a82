// SPDX-License-Identifier: Apache-2.0

package main

// Example runs the program that the README shows and compares what it prints.
func Example() {
	main()
	// Output:
	// [1 0 -1 1] [0.65000004] <nil>
	// [0.5999999 0.7999999] 5 <nil>
	// [1 1 0 0] [10.5 0.5] 1 <nil>
}
