// SPDX-License-Identifier: Apache-2.0

package stn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/setun-compute/setun/quant"
)

func TestForgedHeaders(t *testing.T) {
	const entry = `{"name":"w","shape":[2,5],"kind":"ternary","coding":"base3","cols":5,"group":0,"scales":"f32","sections":[[64,2],[128,4]]}`
	const good = `{"metadata":{},"tensors":[` + entry + `]}`
	sections := make([]byte, 128)
	copy(sections, "\x80\x80")
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the header", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, c := range map[string]struct {
		header string
		count  int
		want   error
		says   string
	}{
		"good":               {good, 1, nil, ""},
		"white space":        {change("{", " {\n\t\r "), 1, nil, ""},
		"for others":         {change(`"kind"`, `"x-a":7,"x-a":"\n","kind"`), 1, nil, ""},
		"escapes":            {change(`"w"`, `"\u0077\u00e4\ud83d\ude00"`), 1, nil, ""},
		"other order":        {`{"tensors":[` + entry + `],"metadata":{"a":"b"}}`, 1, nil, ""},
		"empty":              {"", 1, ErrFormat, "'{' is missing"},
		"cut":                {good[:40], 1, ErrFormat, ""},
		"trailing":           {good + "x", 1, ErrFormat, "something follows"},
		"NUL":                {good + "\x00", 1, ErrFormat, "something follows"},
		"no metadata":        {`{"tensors":[` + entry + `]}`, 1, ErrFormat, "no metadata"},
		"unknown key":        {change(`"metadata"`, `"y":1,"metadata"`), 1, ErrUnsupported, `"y"`},
		"metadata twice":     {change(`"metadata":{}`, `"metadata":{},"metadata":{}`), 1, ErrFormat, "twice"},
		"value twice":        {change(`{}`, `{"a":"b","a":"c"}`), 1, ErrFormat, "twice"},
		"value is a number":  {change(`{}`, `{"a":1}`), 1, ErrFormat, "a string is missing"},
		"depth":              {change(`{}`, strings.Repeat("[", 100000)), 1, ErrFormat, "'{' is missing"},
		"depth of shape":     {change(`[2,5]`, strings.Repeat("[", 100000)), 1, ErrFormat, "size is missing"},
		"depth, skipped":     {change(`"kind"`, `"x-a":`+strings.Repeat("[", 100000)), 1, ErrFormat, "size is missing"},
		"fewer tensors":      {good, 2, ErrFormat, "1 tensors"},
		"more tensors":       {good, 0, ErrFormat, "more tensors"},
		"name twice":         {change(entry, entry+","+strings.Replace(strings.Replace(entry, "[64,", "[192,", 1), "[128,", "[256,", 1)), 2, ErrFormat, ""},
		"no comma":           {change(`,"kind"`, `"kind"`), 1, ErrFormat, "',' is missing"},
		"trailing comma":     {change(`]]}`, `]],}`), 1, ErrFormat, ""},
		"key missing":        {change(`"group":0,`, ""), 1, ErrFormat, "no group"},
		"key twice":          {change(`"group":0`, `"group":0,"group":0`), 1, ErrFormat, "twice"},
		"key of a tensor":    {change(`"group"`, `"z":1,"group"`), 1, ErrUnsupported, `"z"`},
		"key of another":     {change(`"group"`, `"pack":1,"group"`), 1, ErrFormat, "do not belong"},
		"kind":               {change("ternary", "binary"), 1, ErrUnsupported, `"binary"`},
		"coding":             {change("base3", "base4"), 1, ErrUnsupported, `"base4"`},
		"no coding":          {change("base3", ""), 1, ErrUnsupported, "coding"},
		"scales":             {change("f32", "bf16"), 1, ErrUnsupported, `"bf16"`},
		"levels and coding":  {change("ternary", "quinary"), 1, ErrFormat, "quinary codes as base3"},
		"negative":           {change("[2,", "[-2,"), 1, ErrFormat, "size is missing"},
		"fraction":           {change("[2,", "[2.0,"), 1, ErrFormat, "',' is missing"},
		"leading zero":       {change("[2,", "[02,"), 1, ErrFormat, "the first of several is not 0"},
		"large number":       {change("[2,", "[9007199254740992,"), 1, ErrLimit, "greater than 9007199254740991"},
		"1000 digits":        {change("[2,", "["+strings.Repeat("1", 1000)+","), 1, ErrLimit, "greater than 9007199254740991"},
		"no values":          {change("[2,", "[0,"), 1, ErrFormat, "no values"},
		"too many values":    {change("[2,", "[9007199254740991,"), 1, ErrLimit, "2^48"},
		"product wraps":      {change("[2,5", "[4294967296,4294967296,4294967296,4294967296"), 1, ErrLimit, "2^48"},
		"dimensions":         {change("[2,5", "["+strings.Repeat("1,", 16)+"1"), 1, ErrLimit, "dimensions"},
		"10^6 dimensions":    {change("[2,5", "["+strings.Repeat("1,", 1000000)+"1"), 1, ErrLimit, "dimensions"},
		"more rows":          {change("[2,", "[3,"), 1, ErrFormat, "2 bytes of codes; 3 to 3"},
		"many rows":          {change("[2,", "[400000000,"), 1, ErrFormat, "bytes of codes"},
		"cols":               {change(`"cols":5`, `"cols":3`), 1, ErrFormat, "rows of 3"},
		"no cols":            {change(`"cols":5`, `"cols":0`), 1, ErrFormat, "rows of 0"},
		"huge cols":          {change(`"cols":5`, `"cols":2147483648`), 1, ErrLimit, "2^31"},
		"group":              {change(`"group":0`, `"group":6`), 1, ErrFormat, "groups of 6"},
		"more scales":        {change(`"group":0`, `"group":1`), 1, ErrFormat, "4 bytes of scales; 40 are"},
		"overlap":            {change("[128,", "[64,"), 1, ErrFormat, "must begin at 128"},
		"gap":                {change("[128,", "[192,"), 1, ErrFormat, "must begin at 128"},
		"out of range":       {change("[64,2]", "[64,9007199254740991]"), 1, ErrFormat, "end before 192"},
		"before":             {change("[64,2]", "[0,2]"), 1, ErrFormat, "must begin at 64"},
		"empty section":      {change("[64,2]", "[64,0]"), 1, ErrFormat, "0 bytes"},
		"a section of three": {change("[64,2]", "[64,2,3]"), 1, ErrFormat, "an offset and a size"},
		"a section of one":   {change("[64,2]", "[64]"), 1, ErrFormat, "an offset and a size"},
		"too few sections":   {change("[64,2],", ""), 1, ErrFormat, "1 sections; 2"},
		"many sections":      {change("[64,2]", "[64,2],[64,2],[64,2]"), 1, ErrFormat, "more than three"},
		"sections end early": {change(entry, ""), 0, ErrFormat, "the sections end at byte 64"},
		"name":               {change(`"w"`, `""`), 1, ErrFormat, "empty"},
		"long name":          {change(`"w"`, `"`+strings.Repeat("w", MaxName+1)+`"`), 1, ErrLimit, "name of 513"},
		"not UTF-8":          {change(`"w"`, "\"\xff\""), 1, ErrFormat, "UTF-8"},
		"half a surrogate":   {change(`"w"`, `"\ud83d"`), 1, ErrFormat, "escape"},
		"bad escape":         {change(`"w"`, `"\x"`), 1, ErrFormat, "escape"},
		"line in a string":   {change(`"w"`, "\"\n\""), 1, ErrFormat, "0x0a in a string"},
		"open string":        {`{"metadata":{},"tensors":[{"name`, 1, ErrFormat, "does not end"},
		"open escape":        {`{"metadata":{},"tensors":[{"name\`, 1, ErrFormat, "does not end"},
		"large metadata":     {change(`{}`, `{"a":"`+strings.Repeat("a", MaxMetadata)+`"}`), 1, ErrLimit, "metadata"},
		"pack of ternary":    {change(`"coding":"base3"`, `"coding":"rans","pack":3`), 1, ErrFormat, "3 rows of rans packed"},
		"no pack":            {change(`"coding":"base3"`, `"coding":"rans","pack":0`), 1, ErrFormat, "0 rows of rans packed"},
		"wide pack":          {change(`[2,5],"kind":"ternary","coding":"base3"`, `[20000,5],"kind":"ternary","coding":"rans","pack":20000`), 1, ErrFormat, "20000 rows of rans packed"},
		"tiny rans":          {change(`"coding":"base3"`, `"coding":"rans","pack":1`), 1, ErrFormat, "2 sections; 3"},
		"values":             {change(entry, `{"name":"w","shape":[33],"kind":"f32","sections":[[64,128]]}`), 1, ErrFormat, "128 bytes of values; 132"},
	} {
		data := join(sections, c.header, c.count)
		f, err := parse(data, Options{})
		if err == nil {
			err = readAll(f)
		}
		if c.want == nil && err != nil || !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", name, err, c.want, c.says)
		}
		if err != nil {
			typed(t, name, err, len(data))
		}
	}
}

func TestForgedFooters(t *testing.T) {
	good := sample(t)
	forged := func(edit func(foot []byte)) []byte {
		data := slices.Clone(good)
		foot := data[len(data)-footer:]
		edit(foot)
		copy(foot[28:], sumOf(foot[:28]))
		return data
	}
	put := binary.LittleEndian.PutUint64
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"10^6 tensors":       {forged(func(f []byte) { binary.LittleEndian.PutUint32(f[16:], 1e6) }), ErrLimit},
		"2^32 - 1 tensors":   {forged(func(f []byte) { binary.LittleEndian.PutUint32(f[16:], 1<<32-1) }), ErrLimit},
		"one tensor more":    {forged(func(f []byte) { f[16]++ }), ErrFormat},
		"version":            {forged(func(f []byte) { f[20]++ }), ErrFormat},
		"huge header":        {forged(func(f []byte) { put(f[8:], 1<<63) }), ErrLimit},
		"long header":        {forged(func(f []byte) { f[8]++ }), ErrFormat},
		"sections end":       {forged(func(f []byte) { put(f, 1<<63) }), ErrFormat},
		"sections end early": {forged(func(f []byte) { put(f, 0) }), ErrFormat},
		"odd end":            {forged(func(f []byte) { f[0]++ }), ErrFormat},
		"another end":        {forged(func(f []byte) { f[0] += 64 }), ErrFormat},
		"reserved":           {forged(func(f []byte) { f[40]++ }), ErrFormat},
		"end":                {forged(func(f []byte) { f[60]++ }), ErrFormat},
		"nothing":            {nil, ErrFormat},
		"text":               {slices.Repeat([]byte("text\n"), 100), ErrFormat},
	} {
		_, err := parse(c.data, Options{})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		typed(t, name, err, len(c.data))
	}
	next := slices.Clone(good)
	next[8] = 2
	if _, err := parse(next, Options{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("version 2: %v", err)
	}
}

func sumOf(data []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(data, crc32c))
}

// TestForgedSections changes sections and makes the checksums right again.
func TestForgedSections(t *testing.T) {
	good := sample(t)
	f, err := parse(good, Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string, part func(*Info) Section) Section {
		i, err := f.Info(name)
		if err != nil {
			t.Fatal(err)
		}
		return part(&i)
	}
	codes := func(i *Info) Section { return i.Codes }
	index := func(i *Info) Section { return i.Index }
	scales := func(i *Info) Section { return i.Scales }
	float := func(v float64) func(b []byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[4:], math.Float32bits(float32(v))) }
	}
	add := func(n, d int) func(b []byte) { return func(b []byte) { b[(n+len(b))%len(b)] += byte(d) } }
	for name, c := range map[string]struct {
		tensor string
		part   func(*Info) Section
		edit   func(b []byte)
		says   string
	}{
		"NaN scale":          {"ternary int8", scales, float(math.NaN()), "a scale is NaN"},
		"infinite scale":     {"ternary rans", scales, float(math.Inf(-1)), "a scale is -Inf"},
		"negative scale":     {"ternary rans", scales, float(-1), ""},
		"int8 code":          {"ternary int8", codes, func(b []byte) { b[9] = 2 }, "byte 0x02 holds no ternary codes"},
		"quinary code":       {"quinary int8", codes, func(b []byte) { b[9] = 128 }, "byte 0x80 holds no quinary codes"},
		"2 bits":             {"ternary 2bit", codes, func(b []byte) { b[9] |= 12 }, "holds no ternary codes"},
		"base 3":             {"ternary base3", codes, func(b []byte) { b[9] = 255 &^ 1; b[10] = 1 }, "holds no ternary codes"},
		"any four5":          {"sparse four5", codes, func(b []byte) { b[9] = 255 }, ""},
		"planes: a bit more": {"ternary planes", codes, func(b []byte) { b[0] ^= 3; b[1] ^= 255; b[2] ^= 255 }, "signs"},
		"planes: stray bit":  {"ternary planes", codes, func(b []byte) { b[26] |= 128 }, "beyond its codes"},
		"planes: stray sign": {"ternary planes", codes, func(b []byte) { b[len(b)-1] |= 128 }, "signs that go on"},
		"planes: index":      {"ternary planes", index, add(0, 1), "the blocks end at"},
		"planes: large":      {"sparse planes", index, add(3, 1), "the blocks end at"},
		"rans: early":        {"ternary rans", index, add(0, -2), "the blocks end at"},
		"rans: weights":      {"ternary rans", index, add(5, 1), "do not sum up"},
		"rans: other model":  {"ternary rans", index, func(b []byte) { b[5]++; b[7]-- }, "block 0: "},
		"rans: model kind":   {"sparse rans", index, add(4, 2), "kind of model"},
		"rans: table":        {"quinary rans", index, add(4, 1), "frequency is not valid"},
		"rans: low state":    {"ternary rans", codes, func(b []byte) { clear(b[4:8]) }, "state below"},
		"rans: state":        {"ternary rans", codes, func(b []byte) { b[2]++ }, "block 0: "},
		"rans: word":         {"quinary rans", codes, func(b []byte) { b[20]++ }, "block 0: "},
		"rans: last word":    {"sparse rans", codes, add(-1, 1), "block 0: "},
	} {
		data := slices.Clone(good)
		s := at(c.tensor, c.part)
		c.edit(data[s.Offset:s.end()])
		sections, header, count := split(data)
		data = join(sections, header, count)
		f, err := parse(data, Options{})
		if err == nil {
			err = readAll(f)
		}
		if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
			continue
		}
		if err != nil {
			typed(t, name, err, len(data))
			if !strings.Contains(err.Error(), fmt.Sprintf("%q", c.tensor)) {
				t.Errorf("%s: %v does not name the tensor", name, err)
			}
		}
	}
}

func TestMemoryHasALimit(t *testing.T) {
	q := random(rand.New(rand.NewPCG(9, 1)), quant.Ternary, 100, 10000, 0, 1)
	f := write(t, nil, func(w *Writer) error { return w.Add("w", nil, q, RANS) })
	small, err := OpenWith(f.path, Options{MaxBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	if _, err := small.Tensor("w", nil); !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
	if _, err := small.Rows("w", 0, 1, nil); !errors.Is(err, ErrLimit) {
		t.Errorf("a row of 2,000 bytes: %v", err)
	}
	if f.Size() > 600 {
		t.Errorf("a million zeros took %d bytes", f.Size())
	}
}
