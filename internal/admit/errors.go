// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"fmt"

	"github.com/setun-compute/setun/backends"
)

// Sentinels for errors.Is. Each wraps backends.ErrLibrary, as every error of this package does.
var (
	ErrUnsafe  = fmt.Errorf("%w: others could change it", backends.ErrLibrary)         // owner, mode, a folder above, or a symbolic link
	ErrDamaged = fmt.Errorf("%w: damaged", backends.ErrLibrary)                        // a part of it ends beyond the end of the file, or contradicts another
	ErrDigest  = fmt.Errorf("%w: not the one that was installed", backends.ErrLibrary) // its digest is not the one in the manifest, or there is none for it
)

// refuse makes an error that wraps a sentinel.
func refuse(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))
}
