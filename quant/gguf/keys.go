// SPDX-License-Identifier: Apache-2.0

package gguf

import (
	"encoding/binary"
	"fmt"
)

// ValueType is the type of a key's value. The numbers are the format's.
type ValueType uint32

// The value types.
const (
	Uint8   ValueType = 0
	Int8    ValueType = 1
	Uint16  ValueType = 2
	Int16   ValueType = 3
	Uint32  ValueType = 4
	Int32   ValueType = 5
	Float32 ValueType = 6
	Bool    ValueType = 7
	String  ValueType = 8
	Array   ValueType = 9
	Uint64  ValueType = 10
	Int64   ValueType = 11
	Float64 ValueType = 12
)

// valueTypes names them, with the bytes of those that have a fixed size.
var valueTypes = [...]struct {
	name  string
	bytes int
}{{"uint8", 1}, {"int8", 1}, {"uint16", 2}, {"int16", 2}, {"uint32", 4}, {"int32", 4}, {"float32", 4}, {"bool", 1}, {"string", 0}, {"array", 0}, {"uint64", 8}, {"int64", 8}, {"float64", 8}}

// String returns the name that the format's description uses.
func (t ValueType) String() string {
	if int64(t) < int64(len(valueTypes)) {
		return valueTypes[t].name
	}
	return fmt.Sprintf("value type %d", uint32(t))
}

// KeyValue is one entry of a file's metadata. Its value is kept as the file's bytes, so that what is copied is copied exactly; [KeyValue.Value] decodes them. It
// stays valid after Close. Make one with [NewKey].
type KeyValue struct {
	Key string

	raw []byte // type and value as in a file, checked; not to be changed
}

// Scalar lists the Go types of values that are not arrays.
type Scalar interface {
	uint8 | int8 | uint16 | int16 | uint32 | int32 | uint64 | int64 | float32 | float64 | bool | string
}

// Value lists the Go types of all values.
type Value interface {
	Scalar | []uint8 | []int8 | []uint16 | []int16 | []uint32 | []int32 | []uint64 | []int64 | []float32 | []float64 | []bool | []string
}

// NewKey makes an entry. Whether key and value keep the format's limits is checked by [Create].
func NewKey[T Value](key string, value T) KeyValue {
	var raw []byte
	switch v := any(value).(type) {
	case string:
		raw = appendString(appendUint32(nil, uint32(String)), v)
	case []string:
		raw = binary.LittleEndian.AppendUint64(appendUint32(appendUint32(nil, uint32(Array)), uint32(String)), uint64(len(v)))
		for _, s := range v {
			raw = appendString(raw, s)
		}
	default:
		elem, n := typeOf(v)
		if n >= 0 {
			raw = binary.LittleEndian.AppendUint64(appendUint32(appendUint32(nil, uint32(Array)), uint32(elem)), uint64(n))
		} else {
			raw = appendUint32(nil, uint32(elem))
		}
		raw, _ = binary.Append(raw, binary.LittleEndian, v) // fails only for types that are not in Value
	}
	return KeyValue{Key: key, raw: raw}
}

// typeOf returns the value type of a number or boolean, or that of an array's elements with their count; n is -1 when it is no array.
func typeOf(v any) (t ValueType, n int) {
	switch v := v.(type) {
	case uint8:
		return Uint8, -1
	case int8:
		return Int8, -1
	case uint16:
		return Uint16, -1
	case int16:
		return Int16, -1
	case uint32:
		return Uint32, -1
	case int32:
		return Int32, -1
	case uint64:
		return Uint64, -1
	case int64:
		return Int64, -1
	case float32:
		return Float32, -1
	case float64:
		return Float64, -1
	case bool:
		return Bool, -1
	case []uint8:
		return Uint8, len(v)
	case []int8:
		return Int8, len(v)
	case []uint16:
		return Uint16, len(v)
	case []int16:
		return Int16, len(v)
	case []uint32:
		return Uint32, len(v)
	case []int32:
		return Int32, len(v)
	case []uint64:
		return Uint64, len(v)
	case []int64:
		return Int64, len(v)
	case []float32:
		return Float32, len(v)
	case []float64:
		return Float64, len(v)
	}
	return Bool, len(v.([]bool))
}

func appendUint32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// Type returns the value's type and, for an Array, that of its elements. The zero KeyValue has the type Uint8 and no value.
func (k KeyValue) Type() (t, elem ValueType) {
	if len(k.raw) < 4 {
		return 0, 0
	}
	if t = ValueType(binary.LittleEndian.Uint32(k.raw)); t == Array {
		elem = ValueType(binary.LittleEndian.Uint32(k.raw[4:]))
	}
	return t, elem
}

// Len returns the number of an Array's elements, and 1 for other values.
func (k KeyValue) Len() int {
	if t, _ := k.Type(); t == Array {
		return int(binary.LittleEndian.Uint64(k.raw[8:]))
	}
	return 1
}

// Value decodes the value: one of the Go types that [Value] lists, nil for the zero KeyValue. Arrays are allocated anew by every call.
func (k KeyValue) Value() any {
	if len(k.raw) < 4 {
		return nil
	}
	t, elem := k.Type()
	if t != Array {
		return scalar(t, k.raw[4:])
	}
	n, data := k.Len(), k.raw[16:]
	switch elem {
	case Uint8:
		return array[uint8](n, data)
	case Int8:
		return array[int8](n, data)
	case Uint16:
		return array[uint16](n, data)
	case Int16:
		return array[int16](n, data)
	case Uint32:
		return array[uint32](n, data)
	case Int32:
		return array[int32](n, data)
	case Float32:
		return array[float32](n, data)
	case Bool:
		return array[bool](n, data)
	case Uint64:
		return array[uint64](n, data)
	case Int64:
		return array[int64](n, data)
	case Float64:
		return array[float64](n, data)
	}
	texts := make([]string, n)
	for i := range texts {
		end := 8 + int(binary.LittleEndian.Uint64(data))
		texts[i], data = string(data[8:end]), data[end:]
	}
	return texts
}

func scalar(t ValueType, data []byte) any {
	switch t {
	case Uint8:
		return data[0]
	case Int8:
		return int8(data[0])
	case Uint16:
		return one[uint16](data)
	case Int16:
		return one[int16](data)
	case Uint32:
		return one[uint32](data)
	case Int32:
		return one[int32](data)
	case Float32:
		return one[float32](data)
	case Bool:
		return data[0] != 0
	case Uint64:
		return one[uint64](data)
	case Int64:
		return one[int64](data)
	case Float64:
		return one[float64](data)
	}
	return string(data[8:])
}

func one[T Scalar](data []byte) T {
	var v T
	binary.Decode(data, binary.LittleEndian, &v) // the bytes were counted when the value was made
	return v
}

func array[T Scalar](n int, data []byte) []T {
	v := make([]T, n)
	binary.Decode(data, binary.LittleEndian, v)
	return v
}
