// SPDX-License-Identifier: Apache-2.0

package data

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// Vocabulary numbers the pieces of a text from 0. It does not change once made, and may be shared.
type Vocabulary struct {
	pieces []rune         // rising; nil: the 256 bytes. Of bytes when single, else of characters
	single bool           // a piece is one byte of the text
	index  map[rune]int32 // of pieces
}

// Bytes is the vocabulary of the 256 bytes: it has every text.
func Bytes() *Vocabulary { return &Vocabulary{single: true} }

// Characters is the vocabulary of the characters that a text has, in rising order of their code points; for a text that is not UTF-8, of the bytes that it has. Errors: ErrEmpty.
func Characters(text []byte) (*Vocabulary, error) {
	if len(text) == 0 {
		return nil, fmt.Errorf("data: characters: %w", ErrEmpty)
	}
	seen := map[rune]bool{}
	single := !utf8.Valid(text)
	if single {
		for _, b := range text {
			seen[rune(b)] = true
		}
	} else {
		for _, r := range string(text) {
			seen[r] = true
		}
	}
	pieces := make([]rune, 0, len(seen))
	for r := range seen {
		pieces = append(pieces, r)
	}
	slices.Sort(pieces)
	return FromPieces(pieces, single)
}

// FromPieces makes the vocabulary that Pieces described, as a checkpoint holds it. Errors: ErrArgument for pieces that are not rising, or are not characters or, when single, not bytes.
func FromPieces(pieces []rune, single bool) (*Vocabulary, error) {
	if pieces == nil && single {
		return Bytes(), nil
	}
	v := &Vocabulary{pieces: slices.Clone(pieces), single: single, index: make(map[rune]int32, len(pieces))}
	for i, r := range pieces {
		if i > 0 && r <= pieces[i-1] || single && (r < 0 || r > 255) || !single && !utf8.ValidRune(r) {
			return nil, fmt.Errorf("data: piece %d of a vocabulary, %d, is out of order or range: %w", i, r, ErrArgument)
		}
		v.index[r] = int32(i)
	}
	if len(pieces) == 0 {
		return nil, fmt.Errorf("data: a vocabulary of nothing: %w", ErrArgument)
	}
	return v, nil
}

// Pieces returns what FromPieces makes the vocabulary from; nil and true for that of the 256 bytes.
func (v *Vocabulary) Pieces() (pieces []rune, single bool) { return slices.Clone(v.pieces), v.single }

// Size returns the number of pieces.
func (v *Vocabulary) Size() int {
	if v.pieces == nil {
		return 256
	}
	return len(v.pieces)
}

// String says what it is.
func (v *Vocabulary) String() string {
	switch {
	case v.pieces == nil:
		return "256 bytes"
	case v.single:
		return fmt.Sprintf("%d bytes", len(v.pieces))
	}
	return fmt.Sprintf("%d characters", len(v.pieces))
}

// Encode appends the tokens of a text to dst. Errors: ErrUnknown naming the piece and where it is; dst is returned as it was.
func (v *Vocabulary) Encode(dst []int32, text []byte) ([]int32, error) {
	dst = slices.Grow(dst, len(text))
	before := dst
	if v.pieces == nil {
		for _, b := range text {
			dst = append(dst, int32(b))
		}
		return dst, nil
	}
	for at := 0; at < len(text); {
		r, size := rune(text[at]), 1
		if !v.single {
			if r, size = utf8.DecodeRune(text[at:]); r == utf8.RuneError && size == 1 {
				return before, fmt.Errorf("data: byte %d, %#02x, is not UTF-8: %w", at, text[at], ErrUnknown)
			}
		}
		token, ok := v.index[r]
		if !ok {
			return before, fmt.Errorf("data: %q at byte %d: %w", r, at, ErrUnknown)
		}
		dst = append(dst, token)
		at += size
	}
	return dst, nil
}

// Decode appends the text of tokens to dst. Errors: ErrUnknown for a token out of range; dst is returned as it was.
func (v *Vocabulary) Decode(dst []byte, tokens []int32) ([]byte, error) {
	before := dst
	for i, t := range tokens {
		switch {
		case t < 0 || int(t) >= v.Size():
			return before, fmt.Errorf("data: token %d = %d is not within 0..%d: %w", i, t, v.Size()-1, ErrUnknown)
		case v.pieces == nil:
			dst = append(dst, byte(t))
		case v.single:
			dst = append(dst, byte(v.pieces[t]))
		default:
			dst = utf8.AppendRune(dst, v.pieces[t])
		}
	}
	return dst, nil
}

// Split cuts a text at nine tenths, as nanoGPT does: the first part to train on, the last to validate with. They share the memory of tokens.
func Split(tokens []int32) (train, validate []int32) {
	at := len(tokens)/10*9 + len(tokens)%10*9/10
	return tokens[:at:at], tokens[at:]
}
