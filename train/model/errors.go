// SPDX-License-Identifier: Apache-2.0

package model

import (
	"errors"
	"fmt"
)

// Sentinels for errors.Is. Where a call returns one of the first four nothing has been touched.
var (
	ErrConfig   = errors.New("model: invalid configuration")
	ErrShape    = errors.New("model: sizes do not fit")      // of a batch, or an empty prompt
	ErrToken    = errors.New("model: token out of range")    // of tokens, targets or a prompt
	ErrArgument = errors.New("model: invalid argument")      // a scale, temperature or count out of range
	ErrTernary  = errors.New("model: no ternary tensors")    // the configuration has none
	ErrLatent   = errors.New("model: weight cannot be used") // a latent weight is a NaN or an infinity
	ErrPacked   = errors.New("model: not such a model")      // a file's tensors are not those of the configuration
)

// ConfigError says which field of a Config does not fit. It wraps ErrConfig.
type ConfigError struct{ Field, Detail string }

func (e *ConfigError) Error() string { return fmt.Sprintf("%v: %s: %s", ErrConfig, e.Field, e.Detail) }

// Unwrap returns ErrConfig.
func (e *ConfigError) Unwrap() error { return ErrConfig }

// TokenError names a token that the vocabulary does not have. It wraps ErrToken.
type TokenError struct {
	Where string // "tokens", "targets" or "prompt"
	Index int
	Token int32
	Vocab int
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("%v: %s[%d] = %d, the vocabulary has %d", ErrToken, e.Where, e.Index, e.Token, e.Vocab)
}

// Unwrap returns ErrToken.
func (e *TokenError) Unwrap() error { return ErrToken }

// checkTokens returns a *TokenError for the first of tokens that is out of range.
func (m *Model) checkTokens(where string, tokens []int32) error {
	for i, t := range tokens {
		if t < 0 || int(t) >= m.c.Vocab {
			return &TokenError{Where: where, Index: i, Token: t, Vocab: m.c.Vocab}
		}
	}
	return nil
}

// checkBatch looks at the arguments of Forward, and with targets at those of Loss and Backward.
func (m *Model) checkBatch(tokens, targets []int32, batch, length int, withTargets bool) error {
	switch {
	case batch < 1:
		return fmt.Errorf("%w: batch = %d", ErrShape, batch)
	case length < 1 || length > m.c.Context:
		return fmt.Errorf("%w: length = %d is not in 1 … %d, the context", ErrShape, length, m.c.Context)
	case len(tokens)%length != 0 || len(tokens)/length != batch:
		return fmt.Errorf("%w: %d tokens for %d sequences of %d", ErrShape, len(tokens), batch, length)
	case withTargets && len(targets) != len(tokens):
		return fmt.Errorf("%w: %d targets for %d tokens", ErrShape, len(targets), len(tokens))
	}
	if err := m.checkTokens("tokens", tokens); err != nil || !withTargets {
		return err
	}
	return m.checkTokens("targets", targets)
}
