// SPDX-License-Identifier: Apache-2.0

package admit

// policy says what is asked of a library.
type policy struct {
	owners bool   // it and the folders above must be root's or our own
	write  uint32 // the bits of the mode that must not be set
	digest bool   // the digest is taken, and a manifest is looked for
}

// ours is the policy for Setun's libraries.
func ours() policy { return policy{owners: true, write: 0o022, digest: true} }

// theirs is the policy for libraries of others. A process that its user must not take over asks as much of them as of ours.
func theirs() policy {
	if Raised() {
		return policy{owners: true, write: 0o022}
	}
	return policy{write: 0o002}
}
