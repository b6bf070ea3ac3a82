// SPDX-License-Identifier: Apache-2.0

package durable

// Machine is the System of this machine.
var Machine System = machine{}
